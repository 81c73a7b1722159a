//! The client against servers that behave, and servers that do not.
#![allow(clippy::unwrap_used)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use hgci_api::client::{Client, Error, Patience};
use serde_json::{Value, json};

const LONG: Patience = Patience::Total(Duration::from_secs(60));
const SHORT: Patience = Patience::Total(Duration::from_millis(150));

/// A request as a server saw it: the header lines and the body.
struct Seen {
    head: Vec<String>,
    body: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Reads one request; `None` when the connection ends.
fn read_request(reader: &mut BufReader<impl Read>) -> Option<Seen> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let mut seen = Seen { head, body: Vec::new() };
    if let Some(length) = seen.header("content-length").map(|text| text.parse().unwrap()) {
        seen.body.resize(length, 0);
        reader.read_exact(&mut seen.body).ok()?;
    } else if seen.header("transfer-encoding") == Some("chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let start = seen.body.len();
            seen.body.resize(start + size, 0);
            reader.read_exact(&mut seen.body[start..]).ok()?;
            reader.read_line(&mut line).ok()?;
            if size == 0 {
                break;
            }
        }
    }
    Some(seen)
}

/// A socket in a folder that goes away with it, and what the server saw.
struct Server {
    _folder: tempfile::TempDir,
    path: PathBuf,
    seen: Receiver<Seen>,
}

/// Answers every request on every connection with what `answer` makes of it and the number of
/// its connection. The thread ends with the test.
fn serve(answer: impl Fn(&Seen, &mut UnixStream, usize) + Send + Sync + 'static) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let (tell, seen) = channel();
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while let Some(request) = read_request(&mut reader) {
                answer(&request, &mut stream, number);
                let _ = tell.send(request);
            }
        }
    });
    Server { _folder: folder, path, seen }
}

fn respond(stream: &mut UnixStream, status: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

#[test]
fn json_goes_out_and_comes_back_with_the_token() {
    let server = serve(|seen, stream, _| {
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        respond(
            stream,
            "200 OK",
            json!({ "double": body["n"].as_u64().unwrap() * 2 }).to_string().as_bytes(),
        );
    });
    let client = Client::unix(&server.path).with_token("s3cret");
    let answer: Value = client.post("/api/v1/x", &json!({"n": 21}), LONG).unwrap();
    assert_eq!(answer, json!({"double": 42}));
    let seen = server.seen.recv().unwrap();
    assert_eq!(seen.head[0], "POST /api/v1/x HTTP/1.1");
    assert_eq!(seen.header("authorization"), Some("Bearer s3cret"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("content-length"), Some("8"));
}

#[test]
fn the_connection_is_kept_between_calls() {
    let server =
        serve(|_, stream, number| respond(stream, "200 OK", number.to_string().as_bytes()));
    let client = Client::unix(&server.path);
    for _ in 0..5 {
        assert_eq!(client.get::<u64>("/", LONG).unwrap(), 0);
    }
}

#[test]
fn a_connection_that_the_server_closed_is_not_used_again() {
    let server = serve(|_, stream, number| {
        respond(stream, "200 OK", number.to_string().as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let client = Client::unix(&server.path);
    assert_eq!(client.get::<u64>("/", LONG).unwrap(), 0);
    // The end of the first connection is on its way: what is seen is that a second one serves.
    server.seen.recv().unwrap();
    assert_eq!(client.get::<u64>("/", LONG).unwrap(), 1);
}

#[test]
fn a_refusal_carries_the_daemons_words() {
    let server = serve(|seen, stream, _| match seen.head[0].as_str() {
        "GET /gone HTTP/1.1" => {
            respond(stream, "409 Conflict", br#"{"error": "not yours any more"}"#)
        }
        _ => respond(stream, "502 Bad Gateway", b"<html>\nnginx"),
    });
    let client = Client::unix(&server.path);
    let error = client.get::<Value>("/gone", LONG).unwrap_err();
    assert_eq!(error.status(), Some(409));
    let place = server.path.display();
    assert_eq!(error.to_string(), format!("{place}: not yours any more (status 409)"));
    let error = client.get::<Value>("/other", LONG).unwrap_err();
    assert_eq!(error.to_string(), format!("{place}: <html> (status 502)"));
}

#[test]
fn a_refusal_says_when_to_come_again() {
    let server = serve(|seen, stream, _| {
        let status = match seen.head[0].as_str() {
            "GET /often HTTP/1.1" => "429 Too Many Requests\r\nRetry-After: 7",
            "GET /date HTTP/1.1" => "503 Service Unavailable\r\nretry-after: Fri, 31 Dec 1999",
            _ => "503 Service Unavailable",
        };
        respond(stream, status, b"");
    });
    let client = Client::unix(&server.path);
    let after = |path| match client.get::<Value>(path, LONG).unwrap_err() {
        Error::Refused { retry_after, .. } => retry_after,
        error => panic!("{error}"),
    };
    assert_eq!((after("/often"), after("/date"), after("/")), (Some(7), None, None));
}

#[test]
fn nobody_at_the_socket_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let client = Client::unix(&path);
    assert!(matches!(client.get::<Value>("/", LONG), Err(Error::Unreachable { .. })));
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(client.get::<Value>("/", LONG), Err(Error::Unreachable { .. })));
    let long = Client::unix(folder.path().join("x".repeat(200)));
    assert!(matches!(long.get::<Value>("/", LONG), Err(Error::Unreachable { .. })));
}

#[test]
fn a_server_that_never_answers_or_trickles_is_timed_out() {
    let silent = serve(|_, _, _| {});
    let error = Client::unix(&silent.path).get::<Value>("/", SHORT).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");

    // One byte now and then must not stretch the total.
    let trickling = serve(|_, stream, _| {
        while stream.write_all(b"H").is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    let error = Client::unix(&trickling.path).get::<Value>("/", SHORT).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. } | Error::Garbled { .. }), "{error}");
}

#[test]
fn a_full_listen_queue_is_timed_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let _listener = UnixListener::bind(&path).unwrap();
    let mut waiting = Vec::new();
    // Nobody accepts: fill the queue from other threads, until one of them is stuck.
    let (tell, connected) = channel();
    loop {
        let (path, tell) = (path.clone(), tell.clone());
        thread::spawn(move || tell.send(UnixStream::connect(path)));
        match connected.recv_timeout(Duration::from_millis(500)) {
            Ok(stream) => waiting.push(stream),
            Err(_) => break,
        }
    }
    let error = Client::unix(&path).get::<Value>("/", SHORT).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
}

#[test]
fn a_server_that_does_not_read_is_timed_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let (keep, _kept) = channel();
    thread::spawn(move || keep.send(listener.accept()));
    let body = vec![0; 32 << 20];
    let error = Client::unix(&path).post_bytes::<Value>("/", &body, SHORT).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
}

#[test]
fn what_is_not_an_answer_is_garbled() {
    let answers: [&[u8]; 5] = [
        b"\x00\x01\x02 this is not HTTP\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n<b>hi</b>",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n[1,2]",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ];
    for bytes in answers {
        let server = serve(move |_, stream, _| {
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Both);
        });
        let error = Client::unix(&server.path).get::<u64>("/", LONG).unwrap_err();
        let garbled = matches!(error, Error::Garbled { .. } | Error::Unreachable { .. });
        assert!(garbled, "{error} for {:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn an_answer_above_the_limit_is_not_held_in_memory() {
    let server = serve(|_, stream, _| {
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let _ = stream.write_all(head);
        let chunk = [b"1000\r\n".as_slice(), &[b' '; 4096], b"\r\n"].concat();
        while stream.write_all(&chunk).is_ok() {}
    });
    let client = Client::unix(&server.path).with_answer_limit(100_000);
    let error = client.get::<Value>("/", LONG).unwrap_err();
    assert!(matches!(error, Error::Garbled { .. }), "{error}");
    // Headers without end are refused as well.
    let server = serve(|_, stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while stream.write_all(b"x: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n").is_ok() {}
    });
    let error = Client::unix(&server.path).get::<Value>("/", LONG).unwrap_err();
    assert!(matches!(error, Error::Garbled { .. }), "{error}");
}

#[test]
fn an_answer_that_breaks_off_is_an_error() {
    let server = serve(|_, stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"a\":");
        let _ = stream.shutdown(std::net::Shutdown::Both);
    });
    let client = Client::unix(&server.path);
    let error = client.get::<Value>("/", LONG).unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let mut body = Vec::new();
    let download = client.download("/", LONG).unwrap();
    assert!(download.into_reader().read_to_end(&mut body).is_err());
}

#[test]
fn streams_of_any_length_pass_both_ways() {
    let length = 20_000_000;
    let server = serve(move |seen, stream, _| match seen.head[0].split(' ').next() {
        Some("POST") => respond(stream, "200 OK", seen.body.len().to_string().as_bytes()),
        _ => {
            let head = b"HTTP/1.1 200 OK\r\nhgci-next: 7\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head).unwrap();
            let chunk = [b"2710\r\n".as_slice(), &[b'z'; 10_000], b"\r\n"].concat();
            for _ in 0..length / 10_000 {
                stream.write_all(&chunk).unwrap();
            }
            stream.write_all(b"0\r\n\r\n").unwrap();
        }
    });
    let client = Client::unix(&server.path);
    let idle = Patience::Idle(Duration::from_secs(60));
    let sent: u64 = client.upload("/", io::repeat(b'y').take(length), idle).unwrap();
    assert_eq!(sent, length);
    let download = client.download("/", idle).unwrap();
    assert_eq!(download.header("hgci-next"), Some("7"));
    let mut reader = download.into_reader();
    assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap(), length);
    assert_eq!(client.get::<Value>("/", idle).unwrap_err().status(), None);
}

#[test]
fn an_upload_whose_source_fails_is_not_the_daemons_fault() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let server = serve(|_, stream, _| respond(stream, "200 OK", b"1"));
    let error = Client::unix(&server.path).upload::<u64>("/", Broken, LONG).unwrap_err();
    assert!(matches!(error, Error::Source(_)), "{error}");
    assert!(error.to_string().contains("the disk is gone"));
}

#[test]
fn addresses_are_sockets_or_http() {
    for address in ["/run/x.sock", "unix:/run/x.sock", "http://127.0.0.1:80", "http://[::1]:80/"] {
        assert!(Client::connect(address).is_ok(), "{address}");
    }
    for address in ["", "x.sock", "https://h:1", "http://", "http://a/b", "http://a@b", "ftp://h"] {
        assert!(Client::connect(address).is_err(), "{address}");
    }
}

#[test]
fn tcp_works_like_the_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while read_request(&mut reader).is_some() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n5");
        }
    });
    let client = Client::connect(&address).unwrap();
    assert_eq!(client.get::<u64>("/a", LONG).unwrap(), 5);
    assert_eq!(client.post::<_, u64>("/b", "text", LONG).unwrap(), 5);
}

#[test]
fn values_in_queries_are_encoded() {
    assert_eq!(hgci_api::query("/srv/hg/a b&c=ü"), "/srv/hg/a%20b%26c%3D%C3%BC");
}
