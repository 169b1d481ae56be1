// Package config holds the process settings of one replica (tellergate.yaml): what cannot change while requests flow,
// as opposed to rules, which operators edit through the admin API.
//
// It is responsible for reading the settings strictly, for their defaults (the commented default.yaml, embedded), and
// for finding every fault at once. It opens no listener and no connection; of the file system it reads the settings
// file, and the subnets, certificates and keys of frontends that it names.
package config

import (
	"net/netip"
	"time"
)

// Settings is a complete, checked tellergate.yaml with every default filled in. It is immutable once loaded.
type Settings struct {
	Frontends []Frontend
	Identity  Identity
	Testers   Testers
	Sessions  Sessions
	Rules     Rules
	Discovery Discovery
	Admin     Admin
	AccessLog AccessLog
	Upstream  Upstream
	Shutdown  Shutdown
	Log       Log
}

// A Frontend is a fixed listen address and everything negotiated on it.
type Frontend struct {
	Name    string
	Address netip.AddrPort
	Trust   Trust
	TLS     *TLS // nil: plain
	Health  Health
	Limits  Limits
	// DefaultHost stands in for the Host header that an HTTP/1.0 client may leave out; "" refuses such a request.
	DefaultHost string
	// Methods are those that are accepted; empty: any but CONNECT and TRACE.
	Methods []string
}

// Trust says whom a frontend believes. Empty means nobody.
type Trust struct {
	// Identity: client addresses that may claim attributes.
	Identity []netip.Prefix
	// Forwarded: TCP peers whose X-Forwarded-* headers are believed.
	Forwarded []netip.Prefix
}

// Health is what a load balancer polls on the traffic port.
type Health struct {
	Path string `yaml:"path"` // default /-/lb
}

// Limits bound what one client may cost.
type Limits struct {
	HeaderBytes   int           `yaml:"headerBytes"`   // 32768
	HeaderCount   int           `yaml:"headerCount"`   // 200
	HeaderTimeout time.Duration `yaml:"headerTimeout"` // 10s, from the first byte to the end of the header
	IdleTimeout   time.Duration `yaml:"idleTimeout"`   // 75s, between requests
	BodyBytes     int64         `yaml:"bodyBytes"`     // 0: no bound; bodies are streamed
	BodyRate      int           `yaml:"bodyRate"`      // 64 bytes a second at least, on average after 30 s; 0: any
	WholeTimeout  time.Duration `yaml:"wholeTimeout"`  // 0: none; else from the first byte to the last of the answer
	TunnelIdle    time.Duration `yaml:"tunnelIdle"`    // 10m that an upgraded connection may be silent; 0: for ever
	Connections   int           `yaml:"connections"`   // 100000 per frontend
	PerSource     int           `yaml:"perSource"`     // 0: no bound; load balancers concentrate sources
}

// Identity is the declared attributes in the order of the text.
type Identity []Attribute

// An Attribute says where one attribute of identities is found.
type Attribute struct {
	Name    string
	Sources []Source // in the order of the text; the first that answers is taken
	Within  string
	Default string
	Claim   bool // default true
}

// SourceKind is a place where an attribute may stand.
type SourceKind string

// The places an attribute may be read from.
const (
	SourceHeader  SourceKind = "header"
	SourceCookie  SourceKind = "cookie"
	SourceQuery   SourceKind = "query"
	SourceSubnets SourceKind = "subnets"
)

// A Source is one place of an attribute.
type Source struct {
	Kind SourceKind
	// Name of the header, cookie or query parameter; for subnets the CSV file, relative to the settings file.
	Name string
	// Subnets is the content of that file; later lines do not replace earlier ones, doubled prefixes are a fault.
	Subnets []Subnet
}

// A Subnet gives terminals in Prefix the attribute value Value.
type Subnet struct {
	Prefix netip.Prefix
	Value  string
}

// Testers may force a version.
type Testers struct {
	From   []netip.Prefix // client addresses; empty: nobody
	Header string         // default X-Tellergate-Version
}

// Sessions says where pins are kept.
type Sessions struct {
	Store  string         `yaml:"store"` // memory, redis
	Memory SessionsMemory `yaml:"memory"`
	Redis  SessionsRedis  `yaml:"redis"`
}

// SessionsRedis says where pins are kept that several replicas share. It holds no secret, only where they are.
type SessionsRedis struct {
	Mode      string   `yaml:"mode"`      // single, sentinel, cluster; default single
	Addresses []string `yaml:"addresses"` // host:port of the server, the sentinels, or some nodes of the cluster
	Master    string   `yaml:"master"`    // what the sentinels call the primary
	Database  int      `yaml:"database"`  // single and sentinel
	TLS       RedisTLS `yaml:"tls"`
	User      string   `yaml:"user"`
	// PasswordFile or the environment variable PasswordEnv holds the password; both empty: none.
	PasswordFile string `yaml:"passwordFile"`
	PasswordEnv  string `yaml:"passwordEnv"`
	// SecretFile holds the deployment's secret, the same for every replica: at least 16 bytes.
	SecretFile  string        `yaml:"secretFile"`
	Connections int           `yaml:"connections"` // per server; 16
	DialTimeout time.Duration `yaml:"dialTimeout"` // 500ms
	Timeout     time.Duration `yaml:"timeout"`     // 1s, of one exchange
	Freshness   time.Duration `yaml:"freshness"`   // 60s, that a copy answers without being compared with Redis
	Budget      time.Duration `yaml:"budget"`      // 20ms, that a request waits at most
	Entries     int           `yaml:"entries"`     // pin keys that this replica keeps copies of; default 1,000,000
	Failures    int           `yaml:"failures"`    // in a row, until requests do without Redis; 5
	Probe       time.Duration `yaml:"probe"`       // 500ms, between two probes while they do
}

// RedisTLS says whether and how connections to Redis are encrypted.
type RedisTLS struct {
	Enabled    bool   `yaml:"enabled"`
	CA         string `yaml:"ca"`         // PEM file; empty: the system's
	ServerName string `yaml:"serverName"` // empty: the host of each address
	// Certificate and Key are PEM files of the certificate that tellergate shows; both empty: none.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// SessionsMemory bounds the in-process store.
type SessionsMemory struct {
	Entries int `yaml:"entries"` // pin keys kept at most; default 1,000,000
}

// Rules says where revisions are kept.
type Rules struct {
	Store string `yaml:"store"` // file
	Path  string `yaml:"path"`  // directory, relative to the working directory; default ./data
}

// Discovery says where pods are found besides static addresses.
type Discovery struct {
	Kubernetes *Kubernetes `yaml:"kubernetes"` // nil: versions cannot name Kubernetes Services
}

// The values of Kubernetes.Source.
const (
	SourceEndpointSlices = "endpointslices"
	SourceEndpoints      = "endpoints"
)

// Kubernetes is how the API server of the cluster is asked for pods.
type Kubernetes struct {
	Kubeconfig string        `yaml:"kubeconfig"` // file; empty: the service account of tellergate's own pod
	Source     string        `yaml:"source"`     // endpointslices (default) or endpoints
	Namespaces []string      `yaml:"namespaces"` // that rules may name; empty: every one
	HoldEmpty  time.Duration `yaml:"holdEmpty"`  // 30s a list that empties a pod set is not believed
	Cache      string        `yaml:"cache"`      // file of the last known pods; default ./data/pods.cache, "off" for none
}

// Admin is the listener of the admin API.
type Admin struct {
	Address netip.AddrPort // default 127.0.0.1:9180; loopback only until authentication exists
}

// AccessLog is where one line for each request goes.
type AccessLog struct {
	Path string `yaml:"path"` // "stdout", "stderr", "off" or a file; default stdout
	// Mask names attributes whose values are written masked (脱敏): the first and last character with *** between.
	Mask   []string `yaml:"mask"`
	Buffer int      `yaml:"buffer"` // lines that may wait for the writer; beyond it lines are dropped and counted; default 65536
}

// Upstream bounds the connections to pods.
type Upstream struct {
	ConnectTimeout  time.Duration `yaml:"connectTimeout"`  // 2s
	ResponseTimeout time.Duration `yaml:"responseTimeout"` // 60s until the header of the answer
	IdleTimeout     time.Duration `yaml:"idleTimeout"`     // 15s an unused connection is kept; below the pods' own limit
	// AbandonUnsafe: a client that goes away ends its request at the pod whatever the method, not only GET, HEAD, OPTIONS.
	AbandonUnsafe bool `yaml:"abandonUnsafe"`
	PerEndpoint   int  `yaml:"perEndpoint"` // connections to one endpoint at most; default 1024
}

// Shutdown is what happens after SIGTERM.
type Shutdown struct {
	Delay time.Duration `yaml:"delay"` // 5s: health answers 503 and connections are asked to close, but all is served
	Grace time.Duration `yaml:"grace"` // 60s: for requests in flight, after the listeners have closed
	// TunnelNotice, 10s, is how long before the end of Grace the WebSockets that are still open get a closing frame (1001,
	// going away) and other tunnels the end of the stream; never longer than Grace. 0: they are cut at the end.
	TunnelNotice time.Duration `yaml:"tunnelNotice"`
}

// Log is the operator's log on stderr.
type Log struct {
	Level string `yaml:"level"` // debug, info, warn, error; default info
}
