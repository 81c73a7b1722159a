//! How hg-core's revlogs are opened and read here.
//!
//! The configuration is empty, so no hgrc of anybody changes what is read. Nothing is mapped into
//! memory: a strip truncates files, and touching a map of what is gone is SIGBUS. Hence no
//! persistent nodemap either; a scan of the index costs a millisecond per some 100,000 revisions.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use hg::config::Config;
use hg::revlog::compression::CompressionConfig;
use hg::revlog::index::Index;
use hg::revlog::inner_revlog::InnerRevlog;
use hg::revlog::options::{RevlogOpenOptions, default_revlog_options};
use hg::revlog::path_encode::PathEncoding;
use hg::revlog::{Revision, RevlogType, open_index};
use hg::utils::RawData;
use hg::vfs::VfsImpl;
use hgci_core::Node;

use crate::error::{Error, Result};
use crate::open;

/// As hg-core takes them.
pub(crate) type Requirements = HashSet<String>;

/// Requirements that change nothing of what is read here, or that hg-core knows.
const KNOWN: [&str; 20] = [
    "revlogv1",
    "store",
    "generaldelta",
    "sparserevlog",
    "delta-info-revlog",
    "revlog-compression-zstd",
    "fncache",
    "fileindex-v1",
    "dotencode",
    "exp-very-fragile-and-unsafe-plain-store-encoding",
    "share-safe",
    "shared",
    "relshared",
    "bookmarksinstore",
    "persistent-nodemap",
    "dirstate-v2",
    "dirstate-tracked-key-v1",
    "exp-sparse",
    // Both add phases, which count as secret.
    "internal-phase-2",
    "exp-archived-phase",
];

/// Requirements that leave the changelog as it is, but not what belongs to it.
const CHANGELOG_ONLY: [&str; 3] = ["lfs", "largefiles", "treemanifest"];

/// How much of a repository can be read in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All of it.
    All,
    /// The changelog, but not the files, for the reason given.
    Changelog(String),
    /// Nothing, for the reason given.
    Nothing(String),
}

/// What can be read of a repository with these requirements.
pub(crate) fn reach(requirements: &Requirements) -> Reach {
    let has = |name: &str| requirements.contains(name);
    let missing = ["revlogv1", "store"].into_iter().find(|name| !has(name));
    if let Some(name) = missing {
        return Reach::Nothing(format!("the repository lacks the requirement {name}"));
    }
    let mut unknown: Vec<&str> = requirements.iter().map(String::as_str).collect();
    unknown.retain(|name| !KNOWN.contains(name));
    unknown.sort_unstable();
    if let Some(name) = unknown.iter().find(|name| !CHANGELOG_ONLY.contains(name)) {
        return Reach::Nothing(format!("the repository has the requirement {name}"));
    }
    if let Some(name) = unknown.first() {
        return Reach::Changelog(format!("the repository has the requirement {name}"));
    }
    match encoding(requirements) {
        Some(_) => Reach::All,
        None => Reach::Changelog("the repository's store has an old encoding of names".into()),
    }
}

/// How the store encodes the names of files; `None` for ways that hg-core does not know.
pub(crate) fn encoding(requirements: &Requirements) -> Option<PathEncoding> {
    let has = |name: &str| requirements.contains(name);
    if has("exp-very-fragile-and-unsafe-plain-store-encoding") {
        Some(PathEncoding::Plain)
    } else if has("fileindex-v1") || (has("fncache") && has("dotencode")) {
        Some(PathEncoding::DotEncode)
    } else {
        None
    }
}

/// How to open a revlog of this type.
pub(crate) fn options(
    repo: &Path,
    requirements: &Requirements,
    kind: RevlogType,
) -> Result<RevlogOpenOptions> {
    let mut options =
        default_revlog_options(&Config::empty(), requirements, kind).map_err(Error::hg(repo))?;
    options.use_nodemap = false;
    options.data_config.mmap_large_index = false;
    options.data_config.mmap_index_threshold = None;
    // Each revision is read once; what is kept besides would only double the memory.
    options.data_config.uncompressed_cache_count = None;
    options.data_config.uncompressed_cache_factor = None;
    // Says how to write; to make ready for zstd costs more than to read a small file.
    options.feature_config.compression_engine = CompressionConfig::None;
    // A censored file must not pass for an empty one.
    options.feature_config.ignore_filelog_censored_revisions = false;
    Ok(options)
}

/// Runs a call into hg-core. It indexes into what it reads without checking, so a file that is
/// truncated under it can make it panic: that is corrupt data like any other.
pub(crate) fn guarded<T>(repo: &Path, call: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let why = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("panic without a message");
        Err(Error::Corrupt { path: repo.to_owned(), why: format!("hg-core gave up: {why}") })
    })
}

/// A revlog whose index was read.
pub(crate) struct Log {
    inner: InnerRevlog,
    repo: PathBuf,
    /// The file that has the data: of small revlogs, the index.
    data: PathBuf,
}

impl Log {
    /// `index` and `data` are relative to the store. A file that is missing is an empty revlog.
    pub(crate) fn open(
        repo: &Path,
        vfs: &VfsImpl,
        index: &Path,
        data: &Path,
        options: RevlogOpenOptions,
        kind: RevlogType,
    ) -> Result<Self> {
        open::check_index(repo, &vfs.join(index))?;
        let entries = open_index(vfs, index, options).map_err(Error::hg(repo))?;
        let holder = if entries.is_inline() { index } else { data };
        let holder = vfs.join(holder);
        let inner = InnerRevlog::new(
            Box::new(vfs.clone()),
            entries,
            index.to_owned(),
            data.to_owned(),
            options.data_config,
            options.delta_config,
            options.feature_config,
            kind,
            None,
        );
        Ok(Log { inner, repo: repo.to_owned(), data: holder })
    }

    /// The revision of a node, searched from the newest on.
    pub(crate) fn find(&self, node: &Node) -> Option<Revision> {
        let index = &self.inner.index;
        let mut revs = (0..index.len() as i32).rev().map(Revision);
        revs.find(|rev| index.get_entry(*rev).hash().as_bytes() == node.0)
    }

    /// How many bytes a revision has, with what is in front of its content.
    pub(crate) fn size(&self, rev: Revision) -> u64 {
        u64::try_from(self.inner.index.get_entry(rev).uncompressed_len()).unwrap_or(0)
    }

    /// How many bytes the largest has of what must be in memory to restore a revision.
    pub(crate) fn weight(&self, rev: Revision) -> u64 {
        let index = &self.inner.index;
        let (mut current, mut most) = (rev, 0);
        loop {
            most = most.max(self.size(current));
            let base = index.get_entry(current).base_revision_or_base_of_delta_chain().0;
            let next = if index.uses_generaldelta() { base } else { current.0 - 1 };
            // What makes no sense is for `check_chain` to say.
            if base == current.0 || !(0..current.0).contains(&next) {
                return most;
            }
            current = Revision(next);
        }
    }

    /// Decompresses a revision, and checks its hash.
    pub(crate) fn text(&self, rev: Revision) -> Result<RawData> {
        check_chain(&self.repo, &self.inner.index, rev, &self.data)?;
        let entry = self.inner.get_entry(rev).map_err(Error::revlog(&self.repo))?;
        let text = entry.data().map_err(Error::revlog(&self.repo))?;
        // hg-core gives a pointer where the content is kept elsewhere.
        if entry.has_length_affecting_flag_processor() {
            let what = "content that is kept elsewhere".to_owned();
            return Err(Error::Unsupported { path: self.repo.clone(), what });
        }
        Ok(text)
    }
}

/// No format compresses better: zstd repeats a byte 128 Ki times in four bytes.
const MAX_RATIO: u64 = 40_000;

/// Checks what hg-core believes of an index when it restores `rev`: that bases come before what is
/// built on them, and that all of it lies in the data file. Otherwise a damaged index would make it
/// run for ever, or ask for gigabytes.
pub(crate) fn check_chain(repo: &Path, index: &Index, rev: Revision, data: &Path) -> Result<()> {
    let corrupt = |why: String| Error::Corrupt {
        path: repo.to_owned(),
        why: format!("revision {rev} of {}: {why}", data.display()),
    };
    let mut end_of_data = open::about(data)?.map_or(0, |about| about.len());
    let mut current = rev;
    loop {
        let entry = index.get_entry(current);
        let (start, len) = (index.start(current, &entry) as u64, u64::from(entry.compressed_len()));
        if len > 0 {
            if start + len > end_of_data {
                return Err(corrupt(format!("what it needs of {current} is not there")));
            }
            end_of_data = start;
        }
        let base = entry.base_revision_or_base_of_delta_chain().0;
        if base == current.0 {
            let claimed = u64::try_from(entry.uncompressed_len()).unwrap_or(0);
            return match claimed <= len.saturating_mul(MAX_RATIO) {
                true => Ok(()),
                false => Err(corrupt(format!("{len} bytes cannot become {claimed}"))),
            };
        }
        let next = if index.uses_generaldelta() { base } else { current.0 - 1 };
        if !(-1..current.0).contains(&next) {
            return Err(corrupt(format!("{current} cannot be built on {next}")));
        }
        if next == -1 {
            return Ok(());
        }
        current = Revision(next);
    }
}

/// A node as hg-core has it.
pub(crate) fn node(node: &hg::Node) -> Node {
    let mut bytes = [0; 20];
    bytes.copy_from_slice(node.as_bytes());
    Node(bytes)
}
