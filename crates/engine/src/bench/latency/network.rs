//! What lies between sender and receiver.

use std::io;

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
        sender.connect((SENDER, "10.98.0.1/24"), &receiver, (RECEIVER, "10.98.0.2/24"))?;
        Ok(Network::Veth { sender, receiver })
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
