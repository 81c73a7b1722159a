//! What `hgcid.toml` may say, told with file, line, column and mend.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use hgci_core::push::Lane;
use hgcid::config::{
    BuildPolicy, Config, DEFAULTS, Isolation, Recipient, Security, When, Who, parse,
};

fn read(text: &str) -> Config {
    match parse("hgcid.toml", text.as_bytes()) {
        Ok(config) => config,
        Err(mistakes) => {
            let lines: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            panic!("{}", lines.join("\n"));
        }
    }
}

fn mistakes(text: &str) -> Vec<String> {
    let mistakes = parse("hgcid.toml", text.as_bytes()).unwrap_err();
    mistakes.iter().map(ToString::to_string).collect()
}

/// The example of the manual.
const EXAMPLE: &str = r#"
state  = "/var/lib/hgci"
socket = "/run/hgci/hgcid.sock"

[web]
listen = "127.0.0.1:8010"
url    = "https://ci.example.org/"

[mail]
smtp   = "smtp://localhost:25"
from   = "CI <ci@example.org>"
digest = "10m"
to = ["author", "pusher", "list@example.org"]

[[repo]]
name  = "widgets"
path  = "/srv/hg/widgets"
build = "heads"
trusted   = ["alice", "bob"]
frontends = ["www-data"]
public    = false

[[pool]]
name   = "here"
kind   = "local"
slots  = 2
labels = ["linux", "x86_64"]
isolation = "sandbox"
lanes = ["trusted", "try"]

[limits]
timeout  = "1h"
log      = "256MiB"
artifact = "1GiB"
keep     = "90d"
free     = "2GiB"

[secret.DEPLOY_KEY]
file  = "/etc/hgci/deploy.key"
repos = ["widgets"]
"#;

#[test]
fn the_example_of_the_manual_is_understood() {
    let config = read(EXAMPLE);
    assert_eq!(config.socket.to_str(), Some("/run/hgci/hgcid.sock"));
    let web = config.web.unwrap();
    assert_eq!((web.listen.port(), web.url.as_str()), (8010, "https://ci.example.org/"));
    let mail = config.mail.unwrap();
    assert_eq!((mail.smtp.security, mail.smtp.port), (Security::None, 25));
    assert_eq!(mail.digest, Duration::from_secs(600));
    assert_eq!(mail.when, When::Always);
    assert_eq!(mail.to[..2], [Recipient::Author, Recipient::Pusher]);
    assert_eq!(mail.to.len(), 3);
    let repo = &config.repos[0];
    assert_eq!(repo.name.as_deref(), Some("widgets"));
    assert_eq!(repo.build, BuildPolicy::Heads);
    assert_eq!(repo.trusted.as_deref(), Some(["alice".to_owned(), "bob".to_owned()].as_slice()));
    let pool = &config.pools[0];
    assert_eq!(pool.slots, 2);
    assert_eq!(pool.isolation, Isolation::Sandbox { network: false, readonly: vec![] });
    assert_eq!(config.limits.log, 256 << 20);
    assert_eq!(config.limits.keep, Duration::from_secs(90 * 86_400));
    assert_eq!(config.secrets["DEPLOY_KEY"].repos, ["widgets"]);
}

#[test]
fn an_empty_file_has_the_defaults_and_so_has_the_file_of_defaults() {
    let config = read("");
    assert_eq!(config.state.to_str(), Some("/var/lib/hgci"));
    assert_eq!(config.socket_mode, 0o660);
    assert_eq!((config.web, config.mail), (None, None));
    assert!(config.repos.is_empty() && config.pools.is_empty());
    assert_eq!(config.roles.hook, [Who::Everybody]);
    assert!(config.roles.admin.is_empty());
    assert_eq!(config.limits.timeout, Duration::from_secs(3600));

    // What is printed can be pasted, once what has no default is filled in.
    let text = DEFAULTS
        .replace("\n[mail]", "\n[mail]\nsmtp = \"smtp://localhost\"\nfrom = \"ci@example.org\"")
        .replace("\n[[repo]]", "\n[[repo]]\npath = \"/srv/hg/widgets\"")
        .replace("\n[[pool]]", "\n[[pool]]\nname = \"here\"");
    let pasted = read(&text);
    assert_eq!(pasted.limits, config.limits);
    assert_eq!(pasted.roles, config.roles);
    let bare = read(
        "[mail]\nsmtp = \"smtp://localhost\"\nfrom = \"ci@example.org\"\n[[repo]]\npath = \
         \"/srv/hg/widgets\"\n[[pool]]\nname = \"here\"\n",
    );
    assert_eq!(pasted.mail, bare.mail);
    assert_eq!(pasted.repos, bare.repos);
    assert_eq!(pasted.pools, bare.pools);
}

#[test]
fn every_mistake_is_told_with_its_place_and_its_mend() {
    let text = r#"state = "var/lib/hgci"
soket = "/run/x.sock"
[web]
listen = "8010"
[mail]
smtp = "smtp://ci:secret@"
from = "nobody"
when = "allways"
[[repo]]
path = "/srv/hg/widgets"
bild = "heads"
[[repo]]
name = "widgets"
path = "/srv/*/widgets"
[[repo]]
name = "widgets"
path = "/srv/hg/other"
[[pool]]
name = "cloud"
kind = "ec2"
[[pool]]
name = "bare"
isolation = "none"
lanes = ["try"]
network = true
[limits]
timeout = "1 hour"
[secret."NO NAME"]
file = "/etc/x"
"#;
    let expected = [
        "hgcid.toml:1:9: `state`: `var/lib/hgci` is not an absolute path (hgcid is started from \
         anywhere: begin it with /)",
        "hgcid.toml:2:1: unknown key `soket` (did you mean `socket`?)",
        "hgcid.toml:4:10: `web.listen`: `8010` is not an address and a port (write \
         \"127.0.0.1:8010\" or \"[::]:8010\")",
        "hgcid.toml:6:8: `mail.smtp`: not the URL of a mail server (write \"smtp://HOST:25\", \
         \"smtps://USER:PASSWORD@HOST\" or \"smtp+starttls://USER@HOST:587\")",
        "hgcid.toml:7:8: `mail.from`: `nobody` is not a mail address (write \"ci@example.org\" or \
         \"CI <ci@example.org>\")",
        "hgcid.toml:8:8: `mail.when`: unknown value `allways` (did you mean `always`?)",
        "hgcid.toml:11:1: unknown key `bild` in `repo` (did you mean `build`?)",
        "hgcid.toml:14:8: `repo.path`: only the last part of a path may have *",
        "hgcid.toml:16:8: `repo.name`: there is another repo `widgets`",
        "hgcid.toml:20:8: `pool.kind`: pools of kind `ec2` are not supported by this version (use \
         \"local\")",
        "hgcid.toml:24:10: `pool.lanes`: a pool without a sandbox cannot take try jobs (try jobs \
         are anybody's code: give them a pool with isolation = \"sandbox\")",
        "hgcid.toml:25:11: `pool.network`: only a sandboxed pool has it (remove it)",
        "hgcid.toml:27:11: `limits.timeout`: `1 hour`: not a duration; write \"300ms\", \"90s\", \
         \"10m\", \"1h30m\" or \"90d\"",
    ];
    let mut told = mistakes(text);
    let secret = told.split_off(expected.len().min(told.len()));
    assert_eq!(told, expected);
    assert!(secret.iter().any(|m| m.contains("`NO NAME` cannot be a variable")), "{secret:?}");
    assert!(secret.iter().any(|m| m.contains("`repos` in `secret.NO NAME` is missing")));
}

#[test]
fn a_password_is_never_repeated() {
    for url in ["smtp://ci:hunter2@", "smtps://ci:hunter2@host:x", "smtp//ci:hunter2@host"] {
        let text = format!("[mail]\nsmtp = \"{url}\"\nfrom = \"ci@example.org\"\n");
        assert!(!mistakes(&text).concat().contains("hunter2"), "{url}");
    }
    let text = "[mail]\nsmtp = \"smtps://ci:hunter2@host\"\nfrom = \"ci@example.org\"\n";
    assert!(!format!("{:?}", read(text)).contains("hunter2"));
    let both = format!("{text}password-file = \"/etc/hgci/smtp\"\n");
    assert_eq!(
        mistakes(&both),
        ["hgcid.toml:4:17: `mail.password-file`: the password is in `smtp` too (remove one)"]
    );
}

#[test]
fn proxies_are_addresses_and_limits_shut_nobody_out() {
    let web = |proxies: &str| format!("[web]\nlisten = \"127.0.0.1:80\"\nproxies = {proxies}\n");
    let config = read(&web("[\"127.0.0.1\", \"::ffff:10.0.0.1\"]"));
    let proxies: Vec<_> = config.web.unwrap().proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["127.0.0.1", "10.0.0.1"]);
    assert_eq!(
        mistakes(&web("[\"proxy.example.org\"]")),
        ["hgcid.toml:3:12: `web.proxies`: `proxy.example.org` is not an address (write \
          \"127.0.0.1\" or \"::1\")"]
    );
    assert_eq!(
        mistakes("[limits]\nrequests = 0\nconnections = 7\n"),
        [
            "hgcid.toml:2:12: `limits.requests`: 0 would shut everybody out",
            "hgcid.toml:3:15: `limits.connections`: fewer than 8 would shut out hooks and runners",
        ]
    );
}

#[test]
fn pools_without_a_sandbox_take_trusted_jobs_alone() {
    let pool = |isolation: &str| {
        let text = format!("[[pool]]\nname = \"here\"\nisolation = \"{isolation}\"\n");
        read(&text).pools.remove(0)
    };
    assert_eq!(pool("sandbox").lanes, [Lane::Trusted, Lane::Try]);
    assert_eq!(pool("none").lanes, [Lane::Trusted]);
    assert_eq!(pool("user:builder").isolation, Isolation::User("builder".to_owned()));
    assert_eq!(pool("user:builder").lanes, [Lane::Trusted]);
    // Without a word, it is the sandbox.
    let config = read("[[pool]]\nname = \"here\"\n");
    assert!(matches!(config.pools[0].isolation, Isolation::Sandbox { network: false, .. }));
}

#[test]
fn roles_name_accounts_and_groups() {
    let text = "[roles]\nhook = [\"@hg\", \"www-data\"]\nadmin = [\"alice\"]\n\
                [mail]\nsmtp = \"smtp://localhost\"\nfrom = \"ci@example.org\"\n\
                [mail.address]\nalice = \"Alice <alice@example.org>\"\n";
    let config = read(text);
    assert_eq!(
        config.roles.hook,
        [Who::Group("hg".to_owned()), Who::Account("www-data".to_owned())]
    );
    assert_eq!(config.roles.reader, [Who::Everybody]);
    assert_eq!(config.roles.admin, [Who::Account("alice".to_owned())]);
    let mail = config.mail.unwrap();
    assert_eq!(mail.address["alice"].email.to_string(), "alice@example.org");
    assert_eq!(
        mistakes("[roles]\nadmn = []\nhook = [\"a b\"]\n"),
        [
            "hgcid.toml:2:1: unknown key `admn` in `roles` (did you mean `admin`?)",
            "hgcid.toml:3:9: `roles.hook`: `a b` is not the name of an account",
        ]
    );
}

#[test]
fn hostile_files_end_in_mistakes() {
    for text in [
        "repo = 3",
        "repo = [3]",
        "[repo]\nname = 'x'",
        "pool = {}",
        "secret = []",
        "secret.x = 1",
        "mail = false",
        "[mail]\nto = [1]",
        "[mail]\naddress = 7",
        "[roles]\nhook = '*'",
        "socket-mode = 438",
        "socket-mode = '0000'",
        "[[pool]]\nslots = -1",
        "[[repo]]\npath = '/a/../b'",
        "[limits]\nlog = '99999999999TiB'",
        "\u{0}",
        "[[repo]]",
    ] {
        // No panic, and no configuration that says less than the file.
        assert!(parse("x", text.as_bytes()).is_err(), "{text:?}");
    }
    let many = "[[repo]]\n".repeat(20_000);
    assert!(parse("x", many.as_bytes()).unwrap_err().len() <= 101);
    let long = format!("socket = '/{}'", "s".repeat(108));
    assert!(mistakes(&long)[0].contains("at most 107 bytes"));
}
