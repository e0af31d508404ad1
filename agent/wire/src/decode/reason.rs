//! Why a frame was not decoded.

base::closed_list! {
    /// Why there is no measurable packet in a frame; the index of a counter.
    ///
    /// First what is no IP, then what is cut, then what contradicts itself. Of a frame that is
    /// undecodable inside a tunnel, the reason is that of the inside.
    Undecoded {
        /// A link type that is not decoded.
        LinkType = "link_type",
        /// ARP or RARP.
        Arp = "arp",
        /// LLDP.
        Lldp = "lldp",
        /// Spanning tree (LLC 42).
        Stp = "stp",
        /// Another 802.2 LLC frame: CDP, IS-IS, IPX.
        Llc = "llc",
        /// LACP and the other slow protocols of 802.3.
        SlowProtocol = "slow_protocol",
        /// 802.3 MAC control: PAUSE, PFC.
        MacControl = "mac_control",
        /// 802.1X.
        Eapol = "eapol",
        /// PTP over Ethernet.
        Ptp = "ptp",
        /// MACsec: encrypted.
        MacSec = "macsec",
        /// PPPoE discovery.
        PppoeDiscovery = "pppoe_discovery",
        /// PPP with something else than IP: LCP, IPCP, a compressed header.
        Ppp = "ppp",
        /// Another EtherType, or another protocol family of a loopback frame.
        EtherType = "ethertype",
        /// MPLS with something else inside than IP or Ethernet.
        MplsPayload = "mpls_payload",
        /// A header that is needed was not captured.
        Snaplen = "snaplen",
        /// The frame ended on the wire before the header that it announces.
        Short = "short",
        /// More VLAN tags, MPLS labels or link headers than anyone stacks.
        LinkDepth = "link_depth",
        /// Neither IPv4 nor IPv6 where the header before says so.
        IpVersion = "ip_version",
        /// An IPv4 header length below 5, or AH or an option that ends outside its header.
        IpHeader = "ip_header",
        /// An IP length below that of its headers; a jumbogram that is none.
        IpLength = "ip_length",
        /// More IPv6 extension headers than are foreseen.
        IpExtensions = "ip_extensions",
        /// A first fragment too small for the header above IP.
        TinyFragment = "tiny_fragment",
        /// A TCP header length below 5 or above what IP carries.
        TcpHeader = "tcp_header",
        /// A UDP length below 8 or above what IP carries.
        UdpLength = "udp_length",
        /// An ICMP message below its fixed header.
        IcmpLength = "icmp_length",
        /// A GRE or ERSPAN header of a version or with fields that are not decoded.
        TunnelHeader = "tunnel_header",
        /// A tunnel's packet without anything inside: a keep-alive, an acknowledgement.
        TunnelEmpty = "tunnel_empty",
        /// More tunnels inside each other than are looked into.
        TunnelDepth = "tunnel_depth",
    }
}
