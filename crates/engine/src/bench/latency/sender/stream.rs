//! Messages sent by TCP, as SoupBinTCP: the server's side of one session.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use barewire_types::Seq;
use barewire_wire::soupbintcp::{self, END_OF_SESSION, Frame, Packet, Step};

use super::{Out, Plan, Sent, send};
use crate::bench::latency::flow::Packets;
use crate::bench::latency::network::Network;
use crate::bench::latency::{PATIENCE, RunError, Shared};

/// The client's side of it.
struct Stream(TcpStream);

impl Out for Stream {
    #[inline]
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
            other => other,
        }
    }
}

/// Waits for the client, takes its login, and sends as [`send`] does, then the end of the session. The calling thread is
/// in the sender's namespace.
pub(in crate::bench::latency) fn serve(
    packets: &mut Packets,
    network: &Network,
    plan: &Plan,
    shared: &Shared<'_>,
) -> Result<Option<Sent>, RunError> {
    let listener = TcpListener::bind((network.sender_address(), 0))?;
    listener.set_nonblocking(true)?;
    if let SocketAddr::V4(address) = listener.local_addr()? {
        shared.serves(address);
    }
    let Some(mut stream) = login(&listener, plan, shared)? else { return Ok(None) };
    let sent = send(packets, &mut stream, plan, shared)?;
    if sent.is_some() {
        stream.0.set_nonblocking(false)?;
        stream.0.set_write_timeout(Some(PATIENCE))?;
        stream.0.write_all(&END_OF_SESSION)?;
        let until = Instant::now() + PATIENCE;
        while !shared.is_done() && !shared.is_stopped() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(sent)
}

fn login(listener: &TcpListener, plan: &Plan, shared: &Shared<'_>) -> io::Result<Option<Stream>> {
    let until = Instant::now() + PATIENCE;
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_) if shared.is_stopped() || Instant::now() > until => return Ok(None),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = [0; soupbintcp::LOGIN_REQUEST_LEN];
    stream.read_exact(&mut request)?;
    let is_login = |frame: Frame<'_>| matches!(frame.parse(), Ok(Packet::LoginRequest(_)));
    if !matches!(soupbintcp::step(&request), Step::Packet { frame, .. } if is_login(frame)) {
        return Err(io::Error::other("expected a login request, found something else"));
    }
    stream.write_all(&soupbintcp::login_accepted(plan.session, Seq(1)))?;
    stream.set_nonblocking(true)?;
    Ok(Some(Stream(stream)))
}
