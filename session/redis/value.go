package redis

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"tellergate/session"
)

// What Redis holds, one string under each key of a session:
//
//	1 9f86d081884c7d65 00000002 3f2a9c0e51d7 1764000000000 {"service":"counter","version":"v2",…}
//	│ │                │        │            └ the pin's last moment, Unix milliseconds, by Redis's clock
//	│ │                │        └ tag of the subject: equal tags are the same teller, "------------" is none
//	│ │                └ generation: grows with every change of the session but its renewals and its pod
//	│ └ the session, random
//	└ the format
//
// The head has fixed places, so that scripts compare it without parsing. Of the teller and the session's id Redis sees
// only the sealed field. A session that was ended leaves its head with the moment 0 and the body "ended", so that no
// replica's copy brings it back.
const (
	format     = "1 "
	headLength = 55
	noSubject  = "------------"
	endedBody  = "ended"
	keyPrefix  = "tellergate:pin:"
	channel    = "tellergate:pins"
)

// A value is one session as Redis holds it.
type value struct {
	session    uint64
	generation uint32
	ended      bool
	pin        session.Pin
	keys       []session.Key
}

type body struct {
	Service  string    `json:"service"`
	Version  string    `json:"version"`
	Endpoint string    `json:"endpoint,omitempty"`
	UID      string    `json:"uid,omitempty"`
	Branch   string    `json:"branch,omitempty"`
	Moved    bool      `json:"moved,omitempty"`
	Revision uint64    `json:"revision"`
	Start    time.Time `json:"start"`
	Renewed  time.Time `json:"renewed"`
	Idle     string    `json:"idle"`
	End      time.Time `json:"end"`
	Sealed   string    `json:"sealed"` // subject, then attribute and value of each key
}

var errValue = errors.New("this is not the value of a pin")

// A codec turns keys and pins into what Redis sees, and back. It is safe for concurrent use.
type codec struct {
	names, tags []byte
	seal        cipher.AEAD
}

// newCodec derives the keys of every use from the deployment's secret.
func newCodec(secret []byte) (*codec, error) {
	derive := func(purpose string) []byte { return sum(secret, "tellergate 1 "+purpose) }
	block, err := aes.NewCipher(derive("seal"))
	if err != nil {
		return nil, err
	}
	seal, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &codec{names: derive("names"), tags: derive("tags"), seal: seal}, nil
}

func sum(key []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		_, _ = h.Write([]byte(p)) // never fails
		_, _ = h.Write([]byte{0}) // no part holds one
	}
	return h.Sum(nil)
}

// id is the name of a key towards Redis and operators: 128 bits of its HMAC.
func (c *codec) id(k session.Key) string {
	return base64.RawURLEncoding.EncodeToString(sum(c.names, k.Service, k.Attribute, k.Value)[:16])
}

func (c *codec) name(k session.Key) string { return keyPrefix + c.id(k) }

func (c *codec) tag(subject string) string {
	if subject == "" {
		return noSubject
	}
	return hex.EncodeToString(sum(c.tags, subject)[:6])
}

// limit is when a pin dies if nobody renews it: half of idle later than idle, because renewals are written that late.
func limit(p *session.Pin) time.Time {
	at := p.Renewed.Add(p.Idle + p.Idle/2)
	if p.End.Before(at) {
		return p.End
	}
	return at
}

// encode writes a value; offset is how far Redis's clock is ahead of this machine's.
func (c *codec) encode(v *value, offset time.Duration) string {
	fields := []string{v.pin.Subject}
	for _, k := range v.keys {
		fields = append(fields, k.Attribute, k.Value)
	}
	plain, err := json.Marshal(fields)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	// The nonce is drawn from what is sealed: equal texts give equal seals, different ones do not share a nonce.
	nonce := sum(c.tags, "nonce", string(plain))[:c.seal.NonceSize()]
	b := body{
		Service: v.keys[0].Service, Version: v.pin.Version, UID: v.pin.UID, Branch: v.pin.Branch, Moved: v.pin.Moved,
		Revision: v.pin.Revision,
		Start:    v.pin.Start.Add(offset).UTC(), Renewed: v.pin.Renewed.Add(offset).UTC(), Idle: v.pin.Idle.String(),
		End:    v.pin.End.Add(offset).UTC(),
		Sealed: base64.RawStdEncoding.EncodeToString(c.seal.Seal(nonce, nonce, plain, nil)),
	}
	if v.pin.Endpoint.IsValid() {
		b.Endpoint = v.pin.Endpoint.String()
	}
	text, err := json.Marshal(b)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	at := limit(&v.pin).Add(offset).UnixMilli()
	return fmt.Sprintf("%s%016x %08x %s %013d %s", format, v.session, v.generation, c.tag(v.pin.Subject), max(at, 0), text)
}

// encodeEnd writes what is left of a session that was ended.
func encodeEnd(id uint64, generation uint32) string {
	return fmt.Sprintf("%s%016x %08x %s %013d %s", format, id, generation, noSubject, 0, endedBody)
}

// decode reads a value.
func (c *codec) decode(text string, offset time.Duration) (*value, error) {
	if len(text) < headLength || !strings.HasPrefix(text, format) {
		return nil, errValue
	}
	id, err1 := strconv.ParseUint(text[2:18], 16, 64)
	generation, err2 := strconv.ParseUint(text[19:27], 16, 32)
	if err1 != nil || err2 != nil {
		return nil, errValue
	}
	v := &value{session: id, generation: uint32(generation)}
	if text[headLength:] == endedBody {
		v.ended = true
		return v, nil
	}
	var b body
	if err := json.Unmarshal([]byte(text[headLength:]), &b); err != nil {
		return nil, errValue
	}
	idle, err := time.ParseDuration(b.Idle)
	if err != nil || b.Version == "" || idle <= 0 {
		return nil, errValue
	}
	v.pin = session.Pin{
		Version: b.Version, UID: b.UID, Branch: b.Branch, Moved: b.Moved, Revision: b.Revision,
		Start: b.Start.Add(-offset), Renewed: b.Renewed.Add(-offset), Idle: idle, End: b.End.Add(-offset),
	}
	if b.Endpoint != "" {
		if v.pin.Endpoint, err = netip.ParseAddrPort(b.Endpoint); err != nil {
			return nil, errValue
		}
	}
	return v, c.open(v, b)
}

// open reads the sealed part into v.
func (c *codec) open(v *value, b body) error {
	raw, err := base64.RawStdEncoding.DecodeString(b.Sealed)
	if err != nil || len(raw) < c.seal.NonceSize() {
		return errValue
	}
	plain, err := c.seal.Open(nil, raw[:c.seal.NonceSize()], raw[c.seal.NonceSize():], nil)
	if err != nil {
		return errValue
	}
	var fields []string
	if err := json.Unmarshal(plain, &fields); err != nil || len(fields) < 3 || len(fields)%2 != 1 {
		return errValue
	}
	v.pin.Subject = fields[0]
	for i := 1; i < len(fields); i += 2 {
		v.keys = append(v.keys, session.Key{Service: b.Service, Attribute: fields[i], Value: fields[i+1]})
	}
	return nil
}

// Scripts, each over one key. Times are by Redis's clock, in milliseconds.
const (
	// claim: the value, its lifetime, the subject's tag or "" where any will do, now, and a session that does not count.
	// It answers the value that holds the key already; after writing nothing, or "displaced" where a value gave way.
	claimScript = `local g=redis.call('GET',KEYS[1])
if g and string.sub(g,1,2)=='1 ' and tonumber(string.sub(g,42,54))>tonumber(ARGV[4]) and string.sub(g,3,18)~=ARGV[5]
and (ARGV[3]=='' or string.sub(g,29,40)==ARGV[3]) then return g end
redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2]) if g then return 'displaced' end return false`
	displaced = "displaced"

	// assert: the value and its lifetime. Where the key holds nothing, or the same session no further on and not ended, it
	// is written; else the answer is what the key holds.
	assertScript = `local g=redis.call('GET',KEYS[1])
if not g or string.sub(g,1,2)~='1 ' or (string.sub(g,3,18)==string.sub(ARGV[1],3,18)
and string.sub(g,20,27)<=string.sub(ARGV[1],20,27) and string.sub(g,42,54)~='0000000000000') then redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2]) return false end
return g`

	// end: what is left, and its lifetime. Another session's value stays.
	endScript = `local g=redis.call('GET',KEYS[1])
if not g or string.sub(g,3,18)==string.sub(ARGV[1],3,18) then redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2]) return 1 end
return 0`
)
