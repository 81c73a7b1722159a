//! Tar streams, good and bad, written by hand.

/// A stream in the making.
#[derive(Clone, Default)]
pub struct Tarball {
    bytes: Vec<u8>,
}

impl Tarball {
    pub fn new() -> Tarball {
        Tarball::default()
    }

    /// A tree that most tests do with.
    pub fn small() -> Tarball {
        Tarball::new()
            .file(".hg_archival.txt", b"repo: 0\n")
            .executable("run.sh", b"#!/bin/sh\necho I ran\n")
            .file("src/main.c", b"int main;\n")
            .file("src/deep/er/x", b"")
            .symlink("src/link", "main.c")
    }

    pub fn file(self, path: &str, content: &[u8]) -> Tarball {
        self.member(path, b'0', 0o644, "", content)
    }

    pub fn executable(self, path: &str, content: &[u8]) -> Tarball {
        self.member(path, b'0', 0o755, "", content)
    }

    pub fn symlink(self, path: &str, target: &str) -> Tarball {
        self.member(path, b'2', 0o777, target, b"")
    }

    pub fn member(
        mut self,
        path: &str,
        kind: u8,
        mode: u32,
        link: &str,
        content: &[u8],
    ) -> Tarball {
        let mut header = [0_u8; 512];
        let path = &path.as_bytes()[..path.len().min(100)];
        header[..path.len()].copy_from_slice(path);
        header[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend(header);
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// A pax header with one record for the next member.
    pub fn pax(self, key: &str, value: &str) -> Tarball {
        let body = format!(" {key}={value}\n");
        let mut length = body.len() + 1;
        while length != body.len() + length.to_string().len() {
            length = body.len() + length.to_string().len();
        }
        let record = format!("{length}{body}");
        self.member("pax", b'x', 0o644, "", record.as_bytes())
    }

    pub fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}
