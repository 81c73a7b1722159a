//! Times the way of a source tree as an attempt gets it: `source_tree REPO NODE [OUT]` prints the
//! seconds that reading it took, streamed into nothing; with OUT, a folder to be made, from one
//! thread through a socket into the runner's unpacking, as between hgcid and a runner.

use std::error::Error;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use hgci_core::Node;
use hgci_repo::Repository;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [repo, node, out @ ..] = words.as_slice() else {
        return Err("source_tree REPO NODE [OUT]".into());
    };
    let node: Node = node.parse()?;
    hgci_repo::prepare();
    // An hgcid has had it open since its start; what is read is read anew each time.
    let repository = Repository::open(Path::new(repo))?;
    if let Some(above) = out.first().and_then(|out| Path::new(out).parent()) {
        // As runners do for the attempts to come.
        let _ = hgci_runner::ground::spread(above);
    }
    let start = Instant::now();
    match out {
        [] => drop(repository.archive(&node, &mut io::sink())?),
        [out, ..] => unpack(&repository, &node, Path::new(out))?,
    }
    println!("{:.6}", start.elapsed().as_secs_f64());
    Ok(())
}

fn unpack(repository: &Repository, node: &Node, out: &Path) -> Result<(), Failure> {
    std::fs::create_dir(out)?;
    let tree = std::fs::File::open(out)?;
    let (mut near, far) = UnixStream::pair()?;
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || repository.archive(node, &mut near).map(drop));
        hgci_runner::unpack::unpack(tree.as_fd(), far, &mut || ControlFlow::Continue(()))?;
        reading.join().map_err(|_| "reading the tree panicked")??;
        Ok(())
    })
}
