//! Whether what the repositories want to run now can run with the pools that there are.

use std::path::Path;

use hgci_core::engine;
use hgci_core::pipeline::{self, Pipeline};
use hgci_core::plan::plan;
use hgci_core::push::Lane;
use hgci_core::{Node, document};
use hgci_repo::Repository;

/// What is wrong with the pipeline of the newest changeset of a repository, each with its mend.
/// Nothing where there is none, or where it cannot be read: that is told elsewhere.
pub(super) fn look(root: &Path, rules: &engine::Config) -> Vec<(String, &'static str)> {
    let Ok(Some((node, pipeline))) = at_tip(root) else { return Vec::new() };
    let node = node.short();
    let pipeline = match pipeline {
        Ok(pipeline) => pipeline,
        Err(mistake) => {
            let message = format!("the pipeline of changeset {node} is malformed: {mistake}");
            return vec![(message, "`hgci check` tells all of it in a working copy")];
        }
    };
    let skipped = plan(&pipeline).jobs.into_iter().filter_map(|job| {
        // Where no pool takes it in any lane, the trusted lane says why.
        let why = [Lane::Try, Lane::Trusted].map(|lane| rules.why_no_pool(&job, lane));
        let [Some(_), Some(why)] = why else { return None };
        Some(format!("job {} of changeset {node} would be skipped: {why}", job.name))
    });
    skipped
        .map(|message| (message, "give a [[pool]] these `labels`, or change the job's"))
        .collect()
}

type AtTip = Option<(Node, Result<Pipeline, String>)>;

fn at_tip(root: &Path) -> hgci_repo::Result<AtTip> {
    Repository::open(root)?.read(|reader| {
        let Some(node) = reader.tip() else { return Ok(None) };
        let most = document::MAX_SIZE as u64 + 1;
        let Some(text) = reader.file(&node, pipeline::FILE, most)? else { return Ok(None) };
        let parsed = pipeline::parse(pipeline::FILE, &text);
        let link = parsed.is_err() && reader.is_symlink(&node, pipeline::FILE)?;
        let parsed = parsed.map_err(|mistakes| match link {
            true => document::symlink(pipeline::FILE).to_string(),
            false => mistakes[0].to_string(),
        });
        Ok(Some((node, parsed)))
    })
}
