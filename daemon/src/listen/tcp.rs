//! `[web] listen`: the TCP port.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// Opens the port. Says what stands in the way, and the mend.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| format!("[web] listen: {}", why_not(address, &error)))
}

/// Why a port cannot be opened, and the mend in parentheses.
fn why_not(address: SocketAddr, error: &std::io::Error) -> String {
    let (why, mend) = refusal(address, error);
    format!("{why} ({mend})")
}

/// Why a port cannot be opened, and the mend.
pub fn refusal(address: SocketAddr, error: &std::io::Error) -> (String, &'static str) {
    match error.kind() {
        ErrorKind::AddrInUse => {
            (format!("{address} is in use"), "stop what listens there, or choose another port")
        }
        ErrorKind::PermissionDenied => (
            format!("listen on {address}: {error}"),
            "choose a port from 1024 on, behind a web server",
        ),
        _ => (format!("listen on {address}: {error}"), "name an address of this machine"),
    }
}
