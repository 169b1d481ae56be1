package rules

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// versions compiles the versions of a service with the chains of their fallbacks.
func (c *compiler) versions(at string, from *Service, to *CompiledService) {
	if len(from.Versions) == 0 {
		c.fault(at+".versions", "declare at least one", "service %q has no versions", from.Name)
		return
	}
	versionNames := make([]string, len(from.Versions))
	for i := range from.Versions {
		versionNames[i] = from.Versions[i].Name
	}
	labels := c.names(at+".versions", "version", versionNames)
	to.versions = make([]CompiledVersion, len(from.Versions))
	for i := range from.Versions {
		v, place := &from.Versions[i], element(at+".versions", labels[i])
		to.versions[i] = CompiledVersion{index: i, name: v.Name, state: c.state(place+".state", v.State)}
		c.pods(place+".pods", &v.Pods, &to.versions[i])
	}
	next := make([]int, len(from.Versions)) // by version: its fallback, or -1
	for i := range from.Versions {
		next[i] = c.fallback(element(at+".versions", labels[i])+".fallback", &from.Versions[i], to)
	}
	c.fallbackLoops(at+".versions", labels, next, to)
	byDefault := slices.Index(versionNames, from.Default)
	for i := range to.versions {
		to.versions[i].chain = chain(i, byDefault, next, to)
	}
}

func (c *compiler) state(at, state string) string {
	switch state {
	case "":
		return StateActive
	case StateActive, StateDraining, StateDisabled:
	default:
		c.fault(at, "write active, draining or disabled", "%q is not a state", state)
	}
	return state
}

// fallback returns the index of a version's own fallback, or -1.
func (c *compiler) fallback(at string, from *Version, to *CompiledService) int {
	switch from.Fallback {
	case "":
		return -1
	case from.Name:
		c.fault(at, "name another version, or leave it out: the default takes over", "version %q falls back to itself",
			from.Name)
		return -1
	}
	if v := c.version(at, from.Fallback, to); v != nil {
		return v.index
	}
	return -1
}

// fallbackLoops notes each cycle once, at its first version in the document.
func (c *compiler) fallbackLoops(at string, labels []string, next []int, to *CompiledService) {
	walk := make([]int, len(next)) // 1 + number of the walk that came by
	for i := range next {
		v := i
		for v >= 0 && walk[v] == 0 {
			walk[v] = i + 1
			v = next[v]
		}
		if v < 0 || walk[v] != i+1 {
			continue
		}
		first := v
		for w := next[v]; w != v; w = next[w] {
			first = min(first, w)
		}
		loop := to.versions[first].name
		for w := next[first]; ; w = next[w] {
			loop += " → " + to.versions[w].name
			if w == first {
				break
			}
		}
		c.fault(element(at, labels[first])+".fallback", "remove the fallback of one of them",
			"versions fall back to each other in a circle: %s", loop)
	}
}

// chain returns CompiledVersion.chain of version i. Where fallbacks form a circle, which has been noted, it ends there.
func chain(i, byDefault int, next []int, of *CompiledService) []*CompiledVersion {
	var found []*CompiledVersion
	reached := map[int]bool{i: true}
	for v := next[i]; v >= 0 && !reached[v]; v = next[v] {
		reached[v] = true
		found = append(found, &of.versions[v])
	}
	if byDefault >= 0 && !reached[byDefault] {
		found = append(found, &of.versions[byDefault])
	}
	return found
}

func (c *compiler) pods(at string, from *Pods, to *CompiledVersion) {
	switch {
	case from.Static != nil && from.Kubernetes != nil:
		c.fault(at, "keep one of them", "the pods are said to be both static and in Kubernetes")
	case from.Kubernetes != nil:
		c.kubernetes(at+".kubernetes", from.Kubernetes)
		to.kube = &KubernetesPods{
			Namespace: from.Kubernetes.Namespace,
			Service:   from.Kubernetes.Service,
			Port:      from.Kubernetes.Port,
			PodLabels: maps.Clone(from.Kubernetes.PodLabels),
		}
	case len(from.Static) > 0:
		seen := make(map[netip.AddrPort]bool, len(from.Static))
		for i, written := range from.Static {
			c.static(element(at+".static", i), written, seen)
		}
		to.addrs = slices.SortedFunc(maps.Keys(seen), netip.AddrPort.Compare)
	case from.Static != nil:
		c.fault(at+".static", `write at least one, for example "10.2.0.7:8080"; to take the version out, disable it`,
			"the version has no addresses")
	default:
		c.fault(at, "write static addresses or a Kubernetes service", "nothing says where the version's pods are")
	}
}

// static checks one address and enters it into seen.
func (c *compiler) static(at, written string, seen map[netip.AddrPort]bool) {
	addr, err := netip.ParseAddrPort(written)
	const remedy = `write address:port, for example "10.2.0.7:8080" or "[fd00::7]:8080"`
	switch {
	case err != nil && isAddressWithoutPort(written):
		c.fault(at, remedy, "%q has no port", written)
	case err != nil && isHostPort(written):
		c.fault(at, remedy+"; requests never wait for a name server", "%q names a host, not an address", written)
	case err != nil:
		c.fault(at, remedy, "%q is not an address and port", written)
	case addr.Port() == 0:
		c.fault(at, remedy, "%q has port 0", written)
	case addr.Addr().IsUnspecified() || addr.Addr().IsMulticast():
		c.fault(at, "write the address of a pod", "%q is not the address of a pod", written)
	case seen[addr]:
		c.fault(at, "remove one of them", "address %q occurs twice", written)
	default:
		seen[addr] = true
	}
}

func isAddressWithoutPort(s string) bool {
	_, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return err == nil
}

func isHostPort(s string) bool {
	host, _, found := strings.Cut(s, ":")
	return found && isHost(strings.ToLower(host)) && strings.Trim(host, "0123456789.") != ""
}

func (c *compiler) kubernetes(at string, k *KubernetesPods) {
	if !c.in.Schema.kubernetes {
		c.fault(at, "write static addresses", "this replica does not watch Kubernetes")
	}
	if in := c.in.Schema.namespaces; len(in) > 0 && !slices.Contains(in, k.Namespace) {
		c.fault(at+".namespace", "name one of them, or add it to discovery.kubernetes.namespaces",
			"the settings let rules find pods in %s only, not in %q", strings.Join(in, ", "), k.Namespace)
	}
	for _, field := range [...]struct{ name, value, example string }{
		{"namespace", k.Namespace, "bank"},
		{"service", k.Service, "counter-v1"},
	} {
		if !isLabel(field.value) {
			c.fault(at+"."+field.name, fmt.Sprintf("write lower-case letters, digits and '-', for example %q", field.example),
				"%q is not the name of a Kubernetes %s", field.value, field.name)
		}
	}
	if number, err := strconv.Atoi(k.Port); err == nil && (number < 1 || number > 65535) || err != nil && !isLabel(k.Port) {
		c.fault(at+".port", `write the port's name or its number from 1 to 65535 in quotes, for example "http"`,
			"%q is not a port", k.Port)
	}
	for _, key := range sortedKeys(k.PodLabels) {
		if key == "" || strings.TrimSpace(key) != key {
			c.fault(at+".podLabels", "write the label's key", "%q is not the key of a label", key)
		}
	}
}

// isLabel reports whether s is a DNS label (RFC 1123), as Kubernetes names are.
func isLabel(s string) bool {
	for i := range len(s) {
		b := s[i]
		inner := i > 0 && i < len(s)-1
		if ('a' > b || b > 'z') && ('0' > b || b > '9') && (b != '-' || !inner) {
			return false
		}
	}
	return s != "" && len(s) <= 63
}
