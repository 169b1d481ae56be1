package config

import (
	"fmt"
	"net"
	"strconv"
	"time"
)

// redis checks where pins are shared. It is asked only where sessions.store is redis: nothing is missing elsewhere.
func (c *checker) redis(r *SessionsRedis) {
	const at = "sessions.redis"
	switch r.Mode {
	case "single", "sentinel", "cluster":
	default:
		c.fault(at+".mode", fmt.Sprintf("there is no mode %q", r.Mode), "write single, sentinel or cluster")
	}
	if len(r.Addresses) == 0 {
		c.fault(at+".addresses", "there is no address", "write host:port of the server, the sentinels, or nodes of the cluster")
	}
	for i, address := range r.Addresses {
		host, port, err := net.SplitHostPort(address)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || host == "" || bad != nil || n == 0 {
			c.fault(fmt.Sprintf("%s.addresses[%d]", at, i), fmt.Sprintf("%q is not an address with a port", address),
				"write host:port, such as 10.1.2.3:6379")
		}
	}
	if r.Mode == "single" && len(r.Addresses) > 1 {
		c.fault(at+".addresses", fmt.Sprintf("a single server has one address and not %d", len(r.Addresses)),
			"keep one, or set mode to sentinel or cluster")
	}
	switch {
	case r.Mode == "sentinel" && r.Master == "":
		c.fault(at+".master", "the primary has no name", "write what the sentinels call it")
	case r.Mode != "sentinel" && r.Master != "":
		c.fault(at+".master", fmt.Sprintf("mode %s has no sentinels that know %q", r.Mode, r.Master),
			"leave it out, or set mode to sentinel")
	}
	c.number(at+".database", int64(r.Database), 0, 1_000_000)
	if r.Mode == "cluster" && r.Database != 0 {
		c.fault(at+".database", "a cluster has one database", "leave it out")
	}
	if !r.TLS.Enabled && r.TLS != (RedisTLS{}) {
		c.fault(at+".tls", "it is set up and not enabled", "add enabled: true, or leave the rest out")
	}
	if (r.TLS.Certificate == "") != (r.TLS.Key == "") {
		c.fault(at+".tls", "a certificate and its key belong together", "name both files, or neither")
	}
	if r.PasswordFile != "" && r.PasswordEnv != "" {
		c.fault(at+".passwordEnv", "the password cannot come from a file and the environment", "keep one of the two")
	}
	if r.User != "" && r.PasswordFile == "" && r.PasswordEnv == "" {
		c.fault(at+".user", fmt.Sprintf("%q has no password", r.User), "set passwordFile or passwordEnv")
	}
	if r.SecretFile == "" {
		c.fault(at+".secretFile", "there is no secret to hide keys with",
			"name a file of at least 16 random bytes, the same for every replica: openssl rand -hex 32")
	}
	c.number(at+".connections", int64(r.Connections), 4, 10_000)
	c.duration(at+".dialTimeout", r.DialTimeout, time.Millisecond)
	c.duration(at+".timeout", r.Timeout, time.Millisecond)
	c.duration(at+".freshness", r.Freshness, time.Second)
	c.duration(at+".budget", r.Budget, time.Millisecond)
	if r.Budget > r.Timeout {
		c.fault(at+".budget", fmt.Sprintf("%s is longer than the timeout of %s", r.Budget, r.Timeout),
			"a request waits for a part of an exchange: write less")
	}
	c.number(at+".entries", int64(r.Entries), 1, 100_000_000)
	c.number(at+".failures", int64(r.Failures), 1, 10_000)
	c.duration(at+".probe", r.Probe, 10*time.Millisecond)
}
