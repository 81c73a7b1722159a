//! The results log of one repository, and what waits for it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hgci_core::engine::Publication;
use hgci_core::result::{Entry, Origin};
use hgci_results::{Damage, Error, Mark, Place, Reader, Writer};

use super::again::Memory;
use super::mark::{Lost, Written};

/// The first pause before a log that could not be written is tried again; it doubles.
const RETRY: Duration = Duration::from_millis(500);

/// The longest such pause.
const RETRY_MOST: Duration = Duration::from_secs(30);

/// The log of one repository.
pub struct Log {
    repo: String,
    dot_hg: PathBuf,
    origin: Origin,
    writer: Option<Writer>,
    /// Whether the store was asked up to where it was written; what it said, or what is so since;
    /// and whether the store is still to hear of that.
    asked: bool,
    written: Option<Written>,
    is_newer: bool,
    /// What is not written yet.
    waiting: VecDeque<(Vec<Entry>, Publication)>,
    /// After a failure: not before then, and the pause that led there.
    not_before: Option<(Instant, Duration)>,
    /// Why it fails.
    failure: Option<String>,
    /// What was said last of a look.
    said: Option<String>,
}

impl Log {
    /// One that is nowhere yet.
    pub fn new(repo: &str) -> Log {
        Log {
            repo: repo.to_owned(),
            dot_hg: PathBuf::new(),
            origin: Origin::default(),
            writer: None,
            asked: false,
            written: None,
            is_newer: false,
            waiting: VecDeque::new(),
            not_before: None,
            failure: None,
            said: None,
        }
    }

    /// Where it is, and what the results come from.
    pub fn serve(&mut self, dot_hg: PathBuf, origin: Origin) {
        if (&self.dot_hg, &self.origin) != (&dot_hg, &origin) {
            if self.dot_hg != dot_hg {
                (self.asked, self.written, self.is_newer) = (false, None, false);
            }
            (self.dot_hg, self.origin, self.writer) = (dot_hg, origin, None);
            self.not_before = None;
        }
    }

    /// Whether nobody has said where it is.
    pub fn is_nowhere(&self) -> bool {
        self.dot_hg.as_os_str().is_empty()
    }

    /// Lets others have it.
    pub fn close(&mut self) {
        self.writer = None;
    }

    /// When what could not be written is tried again.
    pub fn next_try(&self) -> Option<Instant> {
        self.not_before.map(|(at, _)| at)
    }

    /// Why it cannot be written, while it cannot.
    pub fn failure(&self) -> Option<String> {
        self.failure.clone()
    }

    /// Puts entries behind those that wait. While a log fails the engine asks again.
    pub fn add(&mut self, entries: Vec<Entry>, publication: Publication) {
        if self.failure.is_none() || self.waiting.iter().all(|(_, waits)| *waits != publication) {
            self.waiting.push_back((entries, publication));
        }
    }

    /// Writes all that waits, unless it failed just now; returns what is written.
    pub fn write(&mut self, memory: &Memory) -> Vec<Publication> {
        if self.waiting.is_empty() {
            (self.not_before, self.failure) = (None, None);
            return Vec::new();
        }
        if self.not_before.is_some_and(|(at, _)| at > Instant::now()) {
            return Vec::new();
        }
        let entries: Vec<Entry> =
            self.waiting.iter().flat_map(|(entries, _)| entries.iter().cloned()).collect();
        match self.append(&entries, memory) {
            Ok(()) => {
                (self.not_before, self.failure) = (None, None);
                self.waiting.drain(..).map(|(_, publication)| publication).collect()
            }
            Err(error) => {
                let pause = self.not_before.map_or(RETRY, |(_, pause)| (pause * 2).min(RETRY_MOST));
                self.not_before = Some((Instant::now() + pause, pause));
                tracing::error!(%error, waiting = self.waiting.len(), "results wait for their log");
                self.failure = Some(error);
                Vec::new()
            }
        }
    }

    /// The repository is no longer in the configuration, and where it is nobody knows: what waits is
    /// as good as written, for the store's history keeps how it ended.
    pub fn give_up(&mut self) -> Vec<Publication> {
        (self.not_before, self.failure) = (None, None);
        let given_up: Vec<_> = self.waiting.drain(..).map(|(_, publication)| publication).collect();
        for Publication { build, .. } in &given_up {
            tracing::warn!(
                repo = self.repo, %build,
                "results are not written: the repository is no longer in the configuration"
            );
        }
        given_up
    }

    /// Whether the log is what it was when it was last written. What is lost is said, and what the
    /// store still knows of it written again.
    pub fn look(&mut self, memory: &Memory) {
        if self.is_nowhere() {
            return;
        }
        let is_sound = self.writer.as_ref().map(|writer| writer.check().is_ok());
        let is_sound = is_sound.unwrap_or_else(|| !self.seems_lost(memory));
        let looked = if is_sound {
            Ok(())
        } else {
            self.writer = None;
            self.open(memory).map(drop)
        };
        if let Err(why) = &looked
            && self.said.as_ref() != Some(why)
        {
            tracing::error!(
                repo = self.repo,
                why,
                "a results log is lost, and cannot be made anew"
            );
        }
        self.said = looked.err();
    }

    /// Whether it pays to open the log for writing, to see whether something of it is lost. It costs
    /// little, and makes none.
    fn seems_lost(&mut self, memory: &Memory) -> bool {
        let written = self.written(memory).cloned();
        match (Reader::open(&Place::new(&self.dot_hg)), written) {
            (Ok(Some(log)), Some(written)) => written.lost(log.end()).is_some(),
            (Ok(Some(_)), None) => false,
            (Ok(None), Some(_)) | (Err(Error::NotALog { .. }), _) => true,
            (Ok(None), None) => memory.has_published(&self.repo),
            // Whoever writes next is told why not.
            (Err(_), _) => false,
        }
    }

    /// Up to where the log was written, as far as that is known.
    fn written(&mut self, memory: &Memory) -> Option<&Written> {
        if !self.asked {
            let known = memory.written(&self.repo);
            (self.asked, self.written) = (true, known.filter(|mark| mark.is_in(&self.dot_hg)));
        }
        self.written.as_ref()
    }

    /// Opens the log for writing. Where it is not what it was, that is said, and it gets what the
    /// store still knows: only then it is as it should be, and open.
    fn open(&mut self, memory: &Memory) -> Result<&mut Writer, String> {
        let place = Place::new(&self.dot_hg);
        let is_missing = matches!(Reader::open(&place), Ok(None));
        let mut writer = Writer::open(&place, &self.origin).map_err(|e| e.to_string())?;
        writer.notes().iter().for_each(|note| tracing::warn!("{note}"));
        if let Some(line) = Damage::line(&place.log(), writer.damage()) {
            tracing::error!("{line}");
        }
        let repo = self.repo.clone();
        let lost = match self.written(memory) {
            Some(written) => written.lost(writer.end()).map(|lost| match lost {
                Lost::Other if is_missing => Lost::Deleted,
                lost => lost,
            }),
            // A store that remembers no log, of an earlier release or not this one's.
            None => (is_missing && memory.has_published(&repo)).then_some(Lost::Deleted),
        };
        if let Some(lost) = lost {
            let count = memory.write_again(&repo, &mut writer)?;
            let (log, id) = (place.log(), writer.end().log.to_string());
            let (log, id) = (log.display(), &id[..8]);
            let what = match lost {
                Lost::Deleted => format!("was deleted; a new one, {id},"),
                Lost::Other => format!("was replaced, or its header destroyed; that one, {id},"),
                Lost::Cut(bytes) => format!("was cut by {bytes} bytes; it"),
            };
            memory.losses.say(format!(
                "{repo}: the results log {log} {what} has the {count} results again that are still \
                 known"
            ));
        }
        self.note(writer.end());
        Ok(self.writer.insert(writer))
    }

    /// Remembers up to where the log is written.
    fn note(&mut self, end: Mark) {
        let now = Written::of(&self.dot_hg, end);
        if self.written.as_ref() != Some(&now) {
            (self.asked, self.written, self.is_newer) = (true, Some(now), true);
        }
    }

    /// What the store does not remember yet.
    pub fn mark_to_keep(&mut self) -> Option<(String, Written)> {
        let mark = self.written.clone().filter(|_| self.is_newer)?;
        self.is_newer = false;
        Some((self.repo.clone(), mark))
    }

    fn append(&mut self, entries: &[Entry], memory: &Memory) -> Result<(), String> {
        if self.is_nowhere() {
            return Err("the repository is not served now".into());
        }
        for try_again in [true, false] {
            let writer = match &mut self.writer {
                Some(writer) => writer,
                None => self.open(memory)?,
            };
            match writer.append(entries) {
                Ok(appended) => {
                    if let Some(error) = appended.index {
                        tracing::warn!(%error, "the index of a results log is behind");
                    }
                    self.note(appended.end);
                    return Ok(());
                }
                Err(Error::Replaced { .. } | Error::Shortened { .. } | Error::Broken { .. })
                    if try_again =>
                {
                    self.writer = None;
                }
                Err(error) => {
                    self.writer = None;
                    return Err(error.to_string());
                }
            }
        }
        Err("the results log is being replaced again and again".into())
    }
}
