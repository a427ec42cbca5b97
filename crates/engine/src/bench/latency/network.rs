//! What lies between sender and receiver.

use std::io;
use std::net::Ipv4Addr;

use barewire_io::live_frames::receive_offload;
use barewire_io::netns::NetNs;

/// A network of this process's own.
#[derive(Debug)]
#[non_exhaustive]
pub enum Network {
    /// Two namespaces and a veth pair between them. They have no names: the kernel removes them when the process ends,
    /// however it ends.
    Veth {
        /// Where the sender is.
        sender: NetNs,
        /// Where the receiver is.
        receiver: NetNs,
        /// Why the receiver's end takes no frames from programs; `None` where it does.
        no_frames: Option<String>,
    },
    /// The loopback interface.
    Loopback {
        /// Why there is nothing better.
        why: String,
    },
}

const SENDER: &str = "bw-send";
const RECEIVER: &str = "bw-recv";
const LOOPBACK: &str = "lo";
/// The sender's address over a veth pair.
pub(super) const SENDER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);

impl Network {
    /// Namespaces where the process may make them, else loopback.
    pub fn new() -> Network {
        match Network::veth() {
            Ok(network) => network,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Network::Loopback {
                why: "network namespaces need CAP_SYS_ADMIN and CAP_NET_ADMIN (run as root)".into(),
            },
            Err(error) => Network::Loopback { why: format!("no network namespaces: {error}") },
        }
    }

    fn veth() -> io::Result<Network> {
        let (sender, receiver) = (NetNs::new()?, NetNs::new()?);
        sender.connect((SENDER, &format!("{SENDER_ADDRESS}/24")), &receiver, (RECEIVER, "10.98.0.2/24"))?;
        // As cards have it. It lets the other end take frames from a program.
        let offload = || receiver.enter().and_then(|()| receive_offload(RECEIVER, true));
        let offloads = std::thread::scope(|scope| scope.spawn(offload).join());
        let no_frames = offloads.map_err(|_| io::ErrorKind::Other)?.err().map(|error| error.to_string());
        Ok(Network::Veth { sender, receiver, no_frames })
    }

    pub(super) fn enter_sender(&self) -> io::Result<()> {
        match self {
            Network::Veth { sender, .. } => sender.enter(),
            Network::Loopback { .. } => Ok(()),
        }
    }

    pub(super) fn enter_receiver(&self) -> io::Result<()> {
        match self {
            Network::Veth { receiver, .. } => receiver.enter(),
            Network::Loopback { .. } => Ok(()),
        }
    }

    pub(super) fn sender_interface(&self) -> &'static str {
        if self.is_loopback() { LOOPBACK } else { SENDER }
    }

    pub(super) fn sender_address(&self) -> Ipv4Addr {
        if self.is_loopback() { Ipv4Addr::LOCALHOST } else { SENDER_ADDRESS }
    }

    pub(super) fn receiver_interface(&self) -> &'static str {
        if self.is_loopback() { LOOPBACK } else { RECEIVER }
    }

    /// Whether it is the loopback interface.
    pub fn is_loopback(&self) -> bool {
        matches!(self, Network::Loopback { .. })
    }
}

impl Default for Network {
    fn default() -> Self {
        Network::new()
    }
}
