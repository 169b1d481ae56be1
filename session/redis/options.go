package redis

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"tellergate/session"
)

// Mode is how Redis runs.
type Mode string

// The ways Redis may run.
const (
	Single   Mode = "single"
	Sentinel Mode = "sentinel"
	Cluster  Mode = "cluster"
)

// MinSecret is the least length of a deployment secret, in bytes.
const MinSecret = 16

// Options is what a Store is made of. Addresses, Mode and Secret are required, Master where Mode is Sentinel; what is
// zero besides has the default of config/default.yaml.
type Options struct {
	Mode      Mode
	Addresses []string // of the server, the sentinels, or some nodes of the cluster
	Master    string   // as the sentinels name it
	Database  int      // single and Sentinel
	// TLS is asked for each new connection, to servers and sentinels; nil: there is none. Without a ServerName the host of
	// the address is it.
	TLS func() *tls.Config
	// Credentials is asked for each new connection; nil: none are given. Sentinels are asked without.
	Credentials func() (user, password string)

	// Secret is shared by every replica: it hides keys and seals what belongs to people.
	Secret []byte

	Connections int           // per server
	DialTimeout time.Duration // for one connection
	Timeout     time.Duration // for one exchange, which no request waits for longer than Budget
	Budget      time.Duration // that a request may wait
	Freshness   time.Duration // of a copy
	Entries     int           // keys that copies are kept of
	Failures    int           // in a row, until requests do without Redis
	Probe       time.Duration // between two probes while they do

	// Self says how this replica stands: what it runs, since when, and how many requests are in flight to versions that
	// are not active. nil: nothing is said of it.
	Self func() session.Replica
	// Reuse is how old a census may be that answers an operator, Patience how long a question waits for one.
	Reuse, Patience time.Duration

	Now        func() time.Time
	ServerTime func(context.Context) (time.Time, error) // nil: asks Redis
	Warn       func(string)                             // is told what operators should know; nil: nobody
}

func (o *Options) fill() error {
	if len(o.Addresses) == 0 {
		return errors.New("there is no address of Redis: set sessions.redis.addresses")
	}
	if len(o.Secret) < MinSecret {
		return fmt.Errorf("the deployment secret has %d bytes: write %d random ones or more to sessions.redis.secretFile, "+
			"the same for every replica", len(o.Secret), MinSecret)
	}
	preset := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	preset(&o.DialTimeout, 500*time.Millisecond)
	preset(&o.Timeout, time.Second)
	preset(&o.Budget, 20*time.Millisecond)
	preset(&o.Freshness, time.Minute)
	preset(&o.Probe, 500*time.Millisecond)
	preset(&o.Patience, 20*time.Second)
	if o.Connections == 0 {
		o.Connections = 16
	}
	if o.Entries == 0 {
		o.Entries = 1_000_000
	}
	if o.Failures == 0 {
		o.Failures = 5
	}
	if o.Now == nil {
		o.Now = steady()
	}
	if o.Self == nil {
		o.Self = func() session.Replica { return session.Replica{} }
	}
	if o.Warn == nil {
		o.Warn = func(string) {}
	}
	return nil
}

// steady returns a clock that starts with the machine's and that nobody can set: a step of the machine's clock neither
// ends sessions nor lengthens them. What it is wrong by in the long run is what it differs from Redis's by.
func steady() func() time.Time {
	began := time.Now()
	return func() time.Time { return began.Add(time.Since(began)) }
}

// connect returns a client that has not dialled yet. It never tries again on its own: a command may have been executed.
func (o *Options) connect() (goredis.UniversalClient, error) {
	switch o.Mode {
	case Single:
		return goredis.NewClient(&goredis.Options{
			Addr: o.Addresses[0], DB: o.Database, CredentialsProvider: o.Credentials, Dialer: o.dial, DialerRetries: 1,
			PoolSize: o.Connections, DialTimeout: o.DialTimeout, ReadTimeout: o.Timeout, WriteTimeout: o.Timeout,
			PoolTimeout: o.Timeout, ContextTimeoutEnabled: true, MaxRetries: -1, Protocol: 2, DisableIdentity: true,
		}), nil
	case Sentinel:
		return goredis.NewFailoverClient(&goredis.FailoverOptions{
			MasterName: o.Master, SentinelAddrs: o.Addresses,
			DB: o.Database, CredentialsProvider: o.Credentials, Dialer: o.dial, DialerRetries: 1,
			PoolSize: o.Connections, DialTimeout: o.DialTimeout, ReadTimeout: o.Timeout, WriteTimeout: o.Timeout,
			PoolTimeout: o.Timeout, ContextTimeoutEnabled: true, MaxRetries: -1, Protocol: 2, DisableIdentity: true,
		}), nil
	case Cluster:
		return goredis.NewClusterClient(&goredis.ClusterOptions{
			Addrs: o.Addresses, CredentialsProvider: o.Credentials, Dialer: o.dial, DialerRetries: 1,
			PoolSize: o.Connections, DialTimeout: o.DialTimeout, ReadTimeout: o.Timeout, WriteTimeout: o.Timeout,
			PoolTimeout: o.Timeout, ContextTimeoutEnabled: true, MaxRetries: -1, Protocol: 2, DisableIdentity: true,
		}), nil
	}
	return nil, fmt.Errorf("there is no mode %q of Redis: write single, sentinel or cluster", o.Mode)
}

// dial makes a connection, encrypted as TLS says now.
func (o *Options) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: o.DialTimeout}
	if o.TLS == nil {
		return dialer.DialContext(ctx, network, address)
	}
	encrypted := tls.Dialer{NetDialer: dialer, Config: o.TLS()}
	return encrypted.DialContext(ctx, network, address)
}

// silent keeps go-redis from writing lines of its own to stderr, which is a log of JSON. What fails is counted, and the
// last error is told where operators hear that Redis is away.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func init() { goredis.SetLogger(silent{}) }

// New returns a store that has not dialled anything yet: that Redis is away keeps nobody from starting.
func New(o Options) (*Store, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	client, err := o.connect()
	if err != nil {
		return nil, err
	}
	codec, err := newCodec(o.Secret)
	if err != nil {
		return nil, err
	}
	s := &Store{
		o: o, client: client, codec: codec, local: newLocal(o.Entries), self: rand.Text(),
		writes: make(chan *copied, 1<<16), messages: make(chan string, 1<<12), aging: make(chan *copied, 1<<14),
		news:     make(chan *copied, newsWaiting),
		counting: newCounting(),
	}
	s.line = newLine(client, o.Timeout, o.Budget, &s.stats, o.Failures)
	return s, nil
}
