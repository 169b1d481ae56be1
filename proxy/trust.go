package proxy

import (
	"bytes"
	"net"
	"net/netip"
)

// peerOf returns the TCP peer of a connection. IPv4 addresses in IPv6 form become IPv4, so that they meet the prefixes
// of the settings.
func peerOf(address net.Addr) netip.Addr {
	if tcp, ok := address.(*net.TCPAddr); ok {
		addr, _ := netip.AddrFromSlice(tcp.IP)
		return addr.Unmap()
	}
	return netip.Addr{}
}

// findClient sets r.client, the address that trust.identity, testers.from, subnets and source conditions look at: the
// TCP peer, or, where trust.forwarded names the peer, the right-most X-Forwarded-For element that it does not name.
// An element that is no address ends the search at the last address known, because nobody vouches for what is left
// of it.
func (r *request) findClient() {
	r.client = r.peer
	r.forwardedTrusted = r.peer.IsValid() && r.front.forwarded.Contains(r.peer)
	if !r.forwardedTrusted {
		return
	}
	for i := len(r.fields) - 1; i >= 0; i-- {
		if !equalFold(r.fields[i].name, "X-Forwarded-For") {
			continue
		}
		list := r.fields[i].value
		for len(list) > 0 {
			comma := bytes.LastIndexByte(list, ',')
			element := bytes.TrimSpace(list[comma+1:])
			addr, ok := parseForwarded(element)
			if !ok {
				return
			}
			r.client = addr
			if !r.front.forwarded.Contains(addr) {
				return
			}
			list = list[:max(comma, 0)]
		}
	}
}

// parseForwarded reads an address as proxies write it: bare, with a port, IPv6 with or without brackets.
func parseForwarded(element []byte) (netip.Addr, bool) {
	s := view(element)
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Unmap().WithZone(""), true
	}
	if pair, err := netip.ParseAddrPort(s); err == nil {
		return pair.Addr().Unmap().WithZone(""), true
	}
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		if addr, err := netip.ParseAddr(s[1 : len(s)-1]); err == nil {
			return addr.Unmap().WithZone(""), true
		}
	}
	return netip.Addr{}, false
}
