//! What does not work of repositories now, for `hgcid status`. It goes when it works again.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// What it is that does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// To take in what came.
    Intake,
    /// To write into the results log.
    Results,
}

/// Something that does not work of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The repository's name.
    pub repo: String,
    /// What does not work, and why.
    pub what: String,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Troubles(Mutex<BTreeMap<(String, What), String>>);

impl Troubles {
    /// Something does not work, for that reason.
    pub fn set(&self, repo: &str, what: What, why: String) {
        self.0.lock().insert((repo.to_owned(), what), why);
    }

    /// It works.
    pub fn clear(&self, repo: &str, what: What) {
        let mut troubles = self.0.lock();
        if !troubles.is_empty() {
            troubles.remove(&(repo.to_owned(), what));
        }
    }

    /// By name of repository.
    pub fn shown(&self) -> Vec<Trouble> {
        let said = |((repo, what), why): (&(String, What), &String)| Trouble {
            repo: repo.clone(),
            what: match what {
                What::Intake => format!("what is new is not taken in: {why}"),
                What::Results => format!("results wait for their log: {why}"),
            },
        };
        self.0.lock().iter().map(said).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_works_again_is_not_shown_any_more() {
        let troubles = Troubles::default();
        troubles.set("r", What::Results, "2: no room".into());
        troubles.set("r", What::Intake, "locked".into());
        troubles.set("r", What::Intake, "unreadable".into());
        let shown: Vec<String> = troubles.shown().into_iter().map(|t| t.what).collect();
        assert_eq!(
            shown,
            ["what is new is not taken in: unreadable", "results wait for their log: 2: no room"]
        );
        troubles.clear("r", What::Intake);
        troubles.clear("other", What::Results);
        assert_eq!(troubles.shown().len(), 1);
    }
}
