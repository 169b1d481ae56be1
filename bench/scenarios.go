//go:build linux

package main

import (
	"tellergate/bench/load"
	"tellergate/bench/report"
)

// A scenario is a kind of load and who is put under it.
type scenario struct {
	name, title string
	notBuilt    string // what tellergate lacks; the rest is then empty
	subject     string
	contenders  []string
	reply       int // bytes, header included
	mix         load.MixOptions
	connections int
	idle        int  // connections that idle besides; measured is what they occupy
	tls         bool // clients speak TLS 1.3
	warm        int  // times the option's, where a rate is kept; 0 is 1
	alone       bool // who is not measured is frozen: it would go on with what its own run has left
	loads       []report.Load
	rounds      int    // times the option's; 0 is 1
	atMost      int    // rounds; 0 is any number
	note        string // what a reader of the table has to know
}

// connectionLimit is how many clients contenders are configured for.
const connectionLimit = 12_000

var (
	everybody = []string{tellergate, haproxy, nginx, naive, forwarder, haproxyTCP, noProxy}
	proxies   = []string{tellergate, haproxy, nginx, naive}
	sticky    = []string{tellergate, haproxy, nginx}
	allLoads  = []report.Load{report.Saturation, report.Half, report.High}
	twoLoads  = []report.Load{report.Saturation, report.Half}
)

// sessions is how many sessions take turns, each of another teller.
const sessions = 10_000

// scenarios are all of them, in the order in which they are measured. The first is the one that the quick run takes.
var scenarios = []scenario{
	{name: "small", title: "300 B replies, keep-alive, every request of a pinned session", contenders: everybody,
		reply: 300, mix: load.MixOptions{Count: sessions}, connections: 64, loads: allLoads, rounds: 2},
	{name: "16k", title: "16 KiB replies", contenders: append(proxies[:4:4], forwarder), reply: 16 << 10,
		mix: load.MixOptions{Count: sessions}, connections: 64, loads: twoLoads},
	{name: "1m", title: "1 MiB replies", contenders: append(proxies[:4:4], forwarder), reply: 1 << 20,
		mix: load.MixOptions{Count: 1000}, connections: 64, loads: twoLoads},
	{name: "post", title: "64 KiB POST, 300 B replies", contenders: append(proxies[:4:4], forwarder), reply: 300,
		mix: load.MixOptions{Count: 512, Body: 64 << 10}, connections: 64, loads: twoLoads},
	{name: "connect", title: "a new connection for each request", contenders: proxies, reply: 300,
		mix: load.MixOptions{Count: sessions, Close: true}, connections: 64, loads: twoLoads},
	{name: "new-sessions", title: "a new session with each request (pin miss, in memory)", contenders: sticky, reply: 300,
		mix: load.MixOptions{Count: sessions, NewSession: true}, connections: 64, loads: twoLoads},
	{name: "anonymous", title: "no session", contenders: proxies, reply: 300,
		mix: load.MixOptions{Count: sessions, Anonymous: true}, connections: 64, loads: twoLoads},
	{name: "rules", title: "10, 1,000 and 100,000 rules; new sessions, so that each request is decided", subject: mostRules,
		contenders: []string{tenRules, manyRules, mostRules}, reply: 300,
		mix: load.MixOptions{Count: sessions, NewSession: true}, connections: 64, loads: twoLoads},
	{name: "swap", title: "while rules are replaced", subject: withSwaps, contenders: []string{tellergate, withSwaps}, reply: 300,
		mix: load.MixOptions{Count: sessions}, connections: 64, loads: twoLoads},
	{name: "swap-list", title: "while a list of a million values is replaced", subject: withListSwaps,
		contenders: []string{withList, withListSwaps}, reply: 300, mix: load.MixOptions{Count: sessions}, connections: 64,
		loads: twoLoads, rounds: 3, alone: true, warm: 8}, // the list has been replaced once or twice when measuring begins
	{name: "log", title: "what the access log costs", contenders: []string{tellergate, withoutLogs}, reply: 300,
		mix: load.MixOptions{Count: sessions}, connections: 64, loads: twoLoads},
	{name: "idle", title: "10,000 idle keep-alive connections", contenders: proxies, reply: 300,
		mix: load.MixOptions{Count: sessions}, connections: 64, idle: 10_000, loads: []report.Load{report.Idle}, atMost: 2},
	{name: "pin-redis", title: "pin miss to Redis: 10,000 sessions, none of which the process knows any more when it comes again",
		subject: withRedis, contenders: []string{withRedis, tellergate, haproxy, nginx}, reply: 300,
		mix: load.MixOptions{Count: sessions, Roams: true}, connections: 64, loads: twoLoads,
		note: "Only the first asks Redis, once for each request; the server shares the core of generator and pods. The others answer " +
			"from their own memory: not the same work."},
	{name: "tls", title: "300 B replies over TLS 1.3, keep-alive", contenders: proxies, reply: 300,
		mix: load.MixOptions{Count: sessions}, connections: 64, tls: true, loads: twoLoads},
	{name: "tls-16k", title: "16 KiB replies over TLS 1.3", contenders: proxies, reply: 16 << 10,
		mix: load.MixOptions{Count: sessions}, connections: 64, tls: true, loads: twoLoads},
	{name: "tls-idle", title: "10,000 idle keep-alive connections over TLS 1.3", contenders: proxies, reply: 300,
		mix: load.MixOptions{Count: sessions}, connections: 64, idle: 10_000, tls: true, loads: []report.Load{report.Idle}, atMost: 1},
}
