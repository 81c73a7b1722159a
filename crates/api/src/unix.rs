//! HTTP over a Unix socket: the part of the transport that the HTTP library leaves to us.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags};
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// Resolves nothing: the socket's path is known.
#[derive(Debug)]
pub(crate) struct NoNames;

impl Resolver for NoNames {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut addresses = self.empty();
        // The library wants an address; nothing looks at this one.
        addresses.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
        Ok(addresses)
    }
}

/// Connects to one socket, whatever the URI says.
#[derive(Debug)]
pub(crate) struct UnixConnector {
    path: PathBuf,
}

impl UnixConnector {
    pub(crate) fn new(path: PathBuf) -> UnixConnector {
        UnixConnector { path }
    }
}

impl Connector<()> for UnixConnector {
    type Out = UnixTransport;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<UnixTransport>, Error> {
        let deadline = Deadline::new(details.timeout)?;
        let config = details.config;
        let socket = connect(&self.path, &deadline).map_err(|e| deadline.error(e))?;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(UnixTransport { socket, buffers }))
    }
}

/// A listener whose queue is full makes `connect` wait; only `SO_SNDTIMEO` limits that.
fn connect(path: &Path, deadline: &Deadline) -> rustix::io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket =
        net::socket_with(AddressFamily::UNIX, net::SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, deadline.left()?)?;
    loop {
        match net::connect(&socket, &address) {
            Err(Errno::INTR) => set_socket_timeout(&socket, Timeout::Send, deadline.left()?)?,
            Err(e) => return Err(e),
            Ok(()) => return Ok(socket),
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub(crate) struct UnixTransport {
    socket: OwnedFd,
    buffers: LazyBuffers,
}

impl UnixTransport {
    /// All of the first `amount` bytes, however slowly the other end takes them, in one deadline.
    fn send(&mut self, amount: usize, deadline: &Deadline) -> rustix::io::Result<()> {
        let mut rest = &self.buffers.output()[..amount];
        while !rest.is_empty() {
            set_socket_timeout(&self.socket, Timeout::Send, deadline.left()?)?;
            // Without NOSIGNAL a daemon that goes away would end the process that asks.
            match net::send(&self.socket, rest, SendFlags::NOSIGNAL) {
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn receive(&mut self, deadline: &Deadline) -> rustix::io::Result<usize> {
        loop {
            set_socket_timeout(&self.socket, Timeout::Recv, deadline.left()?)?;
            let buffer = self.buffers.input_append_buf();
            match net::recv(&self.socket, buffer, RecvFlags::empty()) {
                Ok((received, _)) => return Ok(received),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl Transport for UnixTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let deadline = Deadline::new(timeout.for_write())?;
        self.send(amount, &deadline).map_err(|e| deadline.error(e))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let deadline = Deadline::new(timeout.for_read())?;
        let received = self.receive(&deadline).map_err(|e| deadline.error(e))?;
        self.buffers.input_appended(received);
        Ok(received > 0)
    }

    fn is_open(&mut self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        // An idle connection has nothing to read: bytes nobody asked for are as bad as an end.
        matches!(net::recv(&self.socket, &mut [0_u8; 1][..], flags), Err(Errno::AGAIN))
    }
}

/// When an operation must be over, and the library's word for that limit.
struct Deadline {
    at: Option<Instant>,
    timeout: NextTimeout,
}

impl Deadline {
    fn new(timeout: NextTimeout) -> Result<Deadline, Error> {
        if timeout.after.is_zero() {
            return Err(Error::Timeout(timeout.reason));
        }
        let after: Duration = *timeout.after;
        Ok(Deadline { at: Instant::now().checked_add(after), timeout })
    }

    /// What is left, for a socket option (where zero would mean for ever).
    fn left(&self) -> rustix::io::Result<Option<Duration>> {
        let Some(at) = self.at else { return Ok(None) };
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Errno::TIMEDOUT) } else { Ok(Some(left)) }
    }

    fn error(&self, errno: Errno) -> Error {
        // A socket whose timeout is over says EAGAIN; so does `connect`.
        match errno {
            Errno::AGAIN | Errno::TIMEDOUT => Error::Timeout(self.timeout.reason),
            other => Error::Io(io::Error::from(other)),
        }
    }
}
