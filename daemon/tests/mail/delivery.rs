//! From a report to the server, whatever happens on the way.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hgcid::mail::{Links, Mailer, Pace, Settings};
use hgcid::store::{Options, Store};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::front::Held;
use super::server::{Server, arrived};
use super::*;

/// A store and a mailer that is running.
pub struct Scene {
    // The task first: it holds the store.
    task: JoinHandle<()>,
    mailer: Mailer,
    settings: watch::Sender<Settings>,
    store: Arc<Store>,
    room: TempDir,
}

/// Fast enough for a test, slow enough to see that it waits.
const PACE: Pace = Pace { first: Duration::from_millis(50), most: Duration::from_millis(400) };

impl Scene {
    pub fn new(mail: Mail) -> Scene {
        Scene::within(tempfile::tempdir().unwrap(), mail)
    }

    pub fn within(room: TempDir, mail: Mail) -> Scene {
        let options = Options::new(env!("CARGO_BIN_EXE_hgcid"));
        let (store, report) = Store::open(&room.path().join("state"), options).unwrap();
        assert!(!report.lost_something(), "{report:?}");
        let (settings, current) = watch::channel(Some((mail, Links::default())));
        let store = Arc::new(store);
        let mailer = Mailer::new(store.clone(), current, PACE);
        let task = tokio::spawn(mailer.clone().run());
        Scene { task, mailer, settings, store, room }
    }

    pub async fn take(&self, report: PushReport) {
        let mailer = self.mailer.clone();
        tokio::task::spawn_blocking(move || mailer.take(&report).unwrap()).await.unwrap();
    }

    pub fn set(&self, mail: Mail) {
        self.settings.send_replace(Some((mail, Links::default())));
    }

    pub fn waiting(&self) -> usize {
        self.mailer.waiting().unwrap()
    }

    /// Stops it, as the end of the daemon does.
    pub async fn stop(self) -> TempDir {
        let Scene { task, mailer, settings, store, room } = self;
        task.abort();
        let _ = task.await;
        drop((mailer, settings));
        // A call of the store that was under way ends first.
        eventually("the store to be left alone", || Arc::strong_count(&store) == 1).await;
        drop(store);
        room
    }
}

pub async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until that many have arrived, and that no more do.
pub async fn exactly(folder: &Path, count: usize, scene: &Scene) -> Vec<String> {
    eventually("all to arrive", || arrived(folder).len() >= count && scene.waiting() == 0).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let messages = arrived(folder);
    assert_eq!(messages.len(), count, "{messages:#?}");
    messages
}

pub fn plain(port: u16) -> Mail {
    mail(&format!("smtp = \"smtp://127.0.0.1:{port}\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_mailed_once_however_often_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let scene = Scene::new(plain(server.port));
    scene.take(broken(1)).await;
    let message = exactly(folder.path(), 1, &scene).await.remove(0);
    assert!(message.contains("To: Alice <alice@example.org>"), "{message}");
    assert!(message.contains("FAILED tests/test_a.py"), "{message}");
    scene.take(broken(1)).await;
    exactly(folder.path(), 1, &scene).await;
    // After a restart too.
    let scene = Scene::within(scene.stop().await, plain(server.port));
    scene.take(broken(1)).await;
    scene.take(broken(2)).await;
    exactly(folder.path(), 2, &scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starttls_with_a_login_and_a_password_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["tls", "auth"]);
    let password = folder.path().join("password");
    std::fs::write(&password, "p@ss word\nmore\n").unwrap();
    let settings = format!(
        "smtp = \"smtp+starttls://hgci@localhost:{}\"\npassword-file = \"{}\"\nca-file = \"{}\"",
        server.port,
        password.display(),
        server.certificate().display()
    );
    let scene = Scene::new(mail(&settings));
    scene.take(broken(1)).await;
    exactly(folder.path(), 1, &scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn smtps_with_a_login_in_the_url() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["smtps", "auth"]);
    let settings = format!(
        "smtp = \"smtps://hgci:p%40ss%20word@localhost:{}\"\nca-file = \"{}\"",
        server.port,
        server.certificate().display()
    );
    let scene = Scene::new(mail(&settings));
    scene.take(broken(1)).await;
    exactly(folder.path(), 1, &scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_vouches_for_is_not_talked_to() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["tls"]);
    let without = mail(&format!("smtp = \"smtp+starttls://localhost:{}\"", server.port));
    let scene = Scene::new(without);
    scene.take(broken(1)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((arrived(folder.path()).len(), scene.waiting()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_drops_nothing_and_the_right_one_sends_all() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["tls", "auth"]);
    let with = |password: &str| {
        mail(&format!(
            "smtp = \"smtp+starttls://hgci:{password}@localhost:{}\"\nca-file = \"{}\"",
            server.port,
            server.certificate().display()
        ))
    };
    let scene = Scene::new(with("wrong"));
    scene.take(broken(1)).await;
    scene.take(broken(2)).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!((arrived(folder.path()).len(), scene.waiting()), (0, 2));
    scene.set(with("p%40ss%20word"));
    exactly(folder.path(), 2, &scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_is_down_mail_waits_and_all_arrives_once() {
    let folder = tempfile::tempdir().unwrap();
    let held = Held::new();
    let port = held.port();
    let scene = Scene::new(plain(port));
    for n in 1..=20 {
        scene.take(broken(n)).await;
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(scene.waiting(), 20);
    // The daemon is restarted meanwhile.
    let scene = Scene::within(scene.stop().await, plain(port));
    assert_eq!(scene.waiting(), 20);
    let _server = Server::start(folder.path(), &[&format!("port={port}")]);
    let messages = exactly(folder.path(), 20, &scene).await;
    for n in 1..=20 {
        let title = format!("push {n} to widgets by alice");
        assert_eq!(messages.iter().filter(|m| m.contains(&title)).count(), 1, "{title}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_refusal_is_tried_again_and_a_permanent_one_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &[]);
    server.refuse("451 4.7.1 greylisted");
    let scene = Scene::new(plain(server.port));
    scene.take(broken(1)).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!((arrived(folder.path()).len(), scene.waiting()), (0, 1));
    server.refuse("");
    exactly(folder.path(), 1, &scene).await;
    server.refuse("554 5.7.1 no thanks");
    scene.take(broken(2)).await;
    eventually("it to be dropped", || scene.waiting() == 0).await;
    server.refuse("");
    scene.take(broken(3)).await;
    exactly(folder.path(), 2, &scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_sent_for_too_long_is_given_up() {
    let held = Held::new();
    let url = format!("smtp://127.0.0.1:{}", held.port());
    let scene = Scene::new(mail(&format!("smtp = \"{url}\"\ngive-up = \"3s\"")));
    scene.take(broken(1)).await;
    assert_eq!(scene.waiting(), 1);
    eventually("it to be given up", || scene.waiting() == 0).await;
}

/// Digests for the author and a list.
fn digests(port: u16, window: &str) -> Mail {
    let lines = format!("smtp = \"smtp://127.0.0.1:{port}\"\ndigest = \"{window}\"");
    mail(&format!("{lines}\nto = [\"author\", \"list@example.org\"]"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_collects_the_pushes_of_its_window() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let scene = Scene::new(digests(server.port, "1h"));
    for n in 1..=3 {
        scene.take(broken(n)).await;
        scene.take(broken(n)).await;
    }
    assert_eq!(scene.waiting(), 6, "three pushes for each of two people");
    assert_eq!(arrived(folder.path()).len(), 0);
    // Where there are no digests any more, all windows are over.
    scene.set(digests(server.port, "0s"));
    let messages = exactly(folder.path(), 2, &scene).await;
    assert!(messages.iter().all(|message| message.contains("3 pushes to widgets")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_ends_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let scene = Scene::new(digests(server.port, "1s"));
    scene.take(broken(1)).await;
    exactly(folder.path(), 2, &scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_outlasts_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let scene = Scene::new(digests(server.port, "1h"));
    scene.take(broken(1)).await;
    let scene = Scene::within(scene.stop().await, digests(server.port, "1h"));
    assert_eq!((arrived(folder.path()).len(), scene.waiting()), (0, 2));
    scene.take(broken(1)).await;
    scene.take(broken(2)).await;
    assert_eq!(scene.waiting(), 4);
    scene.set(digests(server.port, "0s"));
    let messages = exactly(folder.path(), 2, &scene).await;
    assert!(messages.iter().all(|message| message.contains("2 pushes to widgets")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_may_hold_more_pushes_than_one_message() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let scene = Scene::new(digests(server.port, "1h"));
    for n in 1..=501 {
        scene.take(broken(n)).await;
    }
    scene.set(digests(server.port, "0s"));
    let messages = exactly(folder.path(), 4, &scene).await;
    assert_eq!(messages.iter().filter(|m| m.contains("500 pushes to widgets")).count(), 2);
}
