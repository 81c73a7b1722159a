//! Servers that hang or break off, and messages that are too long: the rest arrives all the same.

use super::delivery::{Scene, eventually, exactly, plain};
use super::front::{Front, Mood};
use super::server::{Server, arrived};
use super::*;

fn with_timeout(port: u16, timeout: &str) -> Mail {
    mail(&format!("smtp = \"smtp://127.0.0.1:{port}\"\ntimeout = \"{timeout}\""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_connections_and_is_silent_is_tried_until_it_speaks() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let front = Front::of(server.port, Mood::Silent).await;
    let scene = Scene::new(with_timeout(front.port, "100ms"));
    for n in 1..=3 {
        scene.take(broken(n)).await;
    }
    for mood in [Mood::Silent, Mood::Greeting] {
        front.be(mood);
        let before = front.taken();
        eventually("two more tries", || front.taken() >= before + 2).await;
        assert_eq!((arrived(folder.path()).len(), scene.waiting()), (0, 3));
    }
    front.be(Mood::Through);
    // It may be slow now, so that nothing is sent twice.
    scene.set(with_timeout(front.port, "60s"));
    exactly(folder.path(), 3, &scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_settings_are_not_held_up_by_a_server_that_is_silent() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    for mood in [Mood::Silent, Mood::Greeting] {
        let front = Front::of(server.port, mood).await;
        let scene = Scene::new(with_timeout(front.port, "1h"));
        let there = arrived(folder.path()).len();
        scene.take(broken(1)).await;
        eventually("a connection", || front.taken() == 1).await;
        scene.set(plain(server.port));
        exactly(folder.path(), there + 1, &scene).await;
        scene.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_silent_once_it_has_a_message_does_not_get_it_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &[]);
    server.mute();
    let scene = Scene::new(plain(server.port));
    scene.take(broken(1)).await;
    eventually("it to be sent", || scene.waiting() == 0).await;
    let scene = Scene::within(scene.stop().await, plain(server.port));
    scene.take(broken(2)).await;
    scene.take(broken(3)).await;
    exactly(folder.path(), 3, &scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_at_which_the_server_breaks_off_lets_others_go_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &[]);
    server.hang_up("push 1 to widgets");
    let scene = Scene::new(plain(server.port));
    for n in 1..=4 {
        scene.take(broken(n)).await;
    }
    eventually("the others", || arrived(folder.path()).len() == 3).await;
    eventually("one that waits", || scene.waiting() == 1).await;
    assert!(server.hung_up() > 0);
    server.hang_up("");
    exactly(folder.path(), 4, &scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_breaks_off_at_every_message_gets_all_of_them_once_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &[]);
    server.hang_up("to widgets");
    let scene = Scene::new(plain(server.port));
    for n in 1..=6 {
        scene.take(broken(n)).await;
    }
    eventually("many tries", || server.hung_up() > 8).await;
    assert_eq!((arrived(folder.path()).len(), scene.waiting()), (0, 6));
    server.hang_up("");
    exactly(folder.path(), 6, &scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_with_more_to_say_than_a_store_takes_are_told_and_hold_up_nothing() {
    for digest in ["0s", "1h"] {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(folder.path(), &[]);
        let of = |digest: &str| {
            mail(&format!("smtp = \"smtp://127.0.0.1:{}\"\ndigest = \"{digest}\"", server.port))
        };
        let scene = Scene::new(of(digest));
        for n in 1..=2 {
            scene.take(huge(n, "…")).await;
        }
        scene.take(broken(3)).await;
        scene.set(of("0s"));
        let count = if digest == "0s" { 3 } else { 1 };
        exactly(folder.path(), count, &scene).await;
    }
}
