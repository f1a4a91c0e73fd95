//! Which addresses peers are told, and who can reach them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

/// Who can reach the advertised addresses, at best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Only programs on this machine.
    ThisMachine,
    /// Only the local network: all addresses are private.
    LocalNetwork,
    /// Everybody, unless a firewall is in the way.
    Internet,
}

impl Reach {
    /// Tells who can reach the best of these addresses.
    pub(crate) fn of(addresses: &[SocketAddr]) -> Self {
        addresses
            .iter()
            .map(|address| Self::of_ip(address.ip()))
            .max()
            .unwrap_or(Self::ThisMachine)
    }

    fn of_ip(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if ip.is_loopback() => Self::ThisMachine,
            IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() => Self::LocalNetwork,
            IpAddr::V4(ip) if ip.is_documentation() || is_shared(ip) => Self::LocalNetwork,
            IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => {
                Self::LocalNetwork
            }
            IpAddr::V4(_) | IpAddr::V6(_) => Self::Internet,
        }
    }
}

/// Guesses the addresses of this machine that peers may reach, best first.
///
/// Those of the default routes, then the first IPv4 address of every other interface, bridges of containers
/// and virtual machines last. 127.0.0.1 ends the list, so that a browser on this machine connects without
/// any network; it costs others one check.
pub(crate) fn guess() -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    let default_v4 = default_source(Ipv4Addr::UNSPECIFIED.into(), OFF_LINK_V4.into());
    let default_v6 = default_source(Ipv6Addr::UNSPECIFIED.into(), OFF_LINK_V6.into());
    found.extend(default_v4);
    found.extend(default_v6);
    let mut interfaces = interfaces();
    interfaces.sort_by_key(|interface| is_bridge(&interface.name));
    found.extend(
        interfaces
            .into_iter()
            .map(|interface| IpAddr::V4(interface.ip)),
    );
    found.retain(|ip| !ip.is_loopback() && !is_link_local(*ip));
    let mut unique: Vec<IpAddr> = Vec::new();
    for ip in found {
        if !unique.contains(&ip) && unique.len() < MAX_GUESSED {
            unique.push(ip);
        }
    }
    unique.push(Ipv4Addr::LOCALHOST.into());
    unique
}

/// Lists all addresses of this machine but the link-local ones, loopback included.
pub(crate) fn local() -> Vec<IpAddr> {
    let mut found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for entry in getifaddrs().into_iter().flatten() {
        let address = entry.address.as_ref();
        found.extend(address.and_then(|a| Some(IpAddr::V4(a.as_sockaddr_in()?.ip()))));
        found.extend(address.and_then(|a| Some(IpAddr::V6(a.as_sockaddr_in6()?.ip()))));
    }
    found.retain(|ip| !is_link_local(*ip));
    found
}

/// The first IPv4 address of an interface.
struct Interface {
    name: String,
    ip: Ipv4Addr,
}

/// Lists the running interfaces that have an IPv4 address; empty when the system does not tell.
fn interfaces() -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = Vec::new();
    let running = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    for entry in getifaddrs().into_iter().flatten() {
        let known = interfaces.iter().any(|i| i.name == entry.interface_name);
        let address = entry.address.as_ref().and_then(|a| a.as_sockaddr_in());
        if let (false, true, Some(address)) = (known, entry.flags.contains(running), address) {
            interfaces.push(Interface {
                name: entry.interface_name,
                ip: address.ip(),
            });
        }
    }
    interfaces
}

/// Asks the routing table for the source address towards an off-link destination. Connecting a UDP socket
/// sends nothing.
fn default_source(local: IpAddr, remote: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind((local, 0)).ok()?;
    socket.connect((remote, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn is_bridge(name: &str) -> bool {
    const PREFIXES: [&str; 9] = [
        "docker", "br-", "veth", "virbr", "cni", "flannel", "cali", "lxc", "podman",
    ];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Tells whether it is an address of carrier-grade NAT (RFC 6598).
fn is_shared(ip: Ipv4Addr) -> bool {
    let [a, b, _, _] = ip.octets();
    a == 100 && b & 0xc0 == 64
}

/// Most guessed addresses besides loopback: peers check each of them.
const MAX_GUESSED: usize = 6;

/// Documentation addresses (RFC 5737, RFC 3849): never on a link, so the default route answers for them.
const OFF_LINK_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OFF_LINK_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reach_is_that_of_the_best_address() {
        #[rustfmt::skip]
        let cases: [(&str, &[&str], Reach); 9] = [
            ("nothing", &[], Reach::ThisMachine),
            ("loopback", &["127.0.0.1:7000", "[::1]:7000"], Reach::ThisMachine),
            ("private", &["10.1.2.3:7000", "127.0.0.1:7000"], Reach::LocalNetwork),
            ("container", &["172.17.0.2:7000"], Reach::LocalNetwork),
            ("carrier-grade NAT", &["100.64.0.1:7000"], Reach::LocalNetwork),
            ("documentation", &["192.0.2.2:7000"], Reach::LocalNetwork),
            ("unique local", &["[fd00::1]:7000"], Reach::LocalNetwork),
            ("public IPv4", &["10.1.2.3:7000", "9.9.9.9:7000"], Reach::Internet),
            ("public IPv6", &["[2a00:1450::1]:7000"], Reach::Internet),
        ];
        for (label, addresses, reach) in cases {
            let addresses: Vec<SocketAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
            assert_eq!(Reach::of(&addresses), reach, "{label}");
        }
    }

    #[test]
    fn guess_ends_with_loopback_and_repeats_nothing() {
        let guessed = guess();
        assert_eq!(guessed.last(), Some(&Ipv4Addr::LOCALHOST.into()));
        for (index, ip) in guessed.iter().enumerate() {
            assert!(!guessed[..index].contains(ip), "{ip} twice");
        }
    }

    #[test]
    fn bridges_are_known_by_name() {
        assert!(is_bridge("docker0") && is_bridge("br-1a2b") && is_bridge("veth9"));
        assert!(!is_bridge("eth0") && !is_bridge("wlan0") && !is_bridge("bridge-lan"));
    }
}
