// Package proxy is the data plane: frontends, and the life of a request from its first byte to the access log.
//
// It is responsible for what fasthttp hands it: limits, trust, identity, matching to a service, asking package rules
// for a decision and package session for pins, forwarding through proxy/upstream, and the metrics and log line that
// tell of it. It does not decide, find pods, or know the admin API.
package proxy
