package kubernetes

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tellergate/discovery"
)

// The cache is one file: a line of cacheHead, then a line of cacheBody. It is replaced whole, by renaming; a reader
// sees the former one or this one. It only ever shortens the time without an API server, so damage costs no more than
// a line in the log.

const cacheFormat = 1

type cacheHead struct {
	Format int    `json:"format"`
	SHA256 string `json:"sha256"` // of the second line
}

type cacheBody struct {
	Server  string                  `json:"server"` // another server's pods are not ours
	Written time.Time               `json:"written"`
	Pods    map[string]cachedPodSet `json:"pods"` // by Reference.String
}

type cachedPodSet []cachedEndpoint

type cachedEndpoint struct {
	Address  netip.AddrPort `json:"address"`
	UID      string         `json:"uid,omitempty"`
	Zone     string         `json:"zone,omitempty"`
	Draining bool           `json:"draining,omitempty"`
}

func (c cachedPodSet) set() *discovery.EndpointSet {
	endpoints := make([]discovery.Endpoint, len(c))
	for i, e := range c {
		endpoints[i] = discovery.Endpoint{Addr: e.Address, UID: e.UID, Zone: e.Zone}
		if e.Draining {
			endpoints[i].State = discovery.Draining
		}
	}
	return discovery.NewEndpointSet(endpoints)
}

func cachedOf(set *discovery.EndpointSet) cachedPodSet {
	c := make(cachedPodSet, set.Len())
	for i := range c {
		e := set.At(i)
		c[i] = cachedEndpoint{e.Addr, e.UID, e.Zone, e.State == discovery.Draining}
	}
	return c
}

// parseCache reads a cache file's content. Whatever it returns without an error can be dialled.
func parseCache(text []byte) (body cacheBody, err error) {
	first, second, _ := bytes.Cut(text, []byte("\n"))
	var head cacheHead
	if err := json.Unmarshal(first, &head); err != nil {
		return body, errors.New("it does not begin like a cache")
	}
	if head.Format != cacheFormat {
		return body, fmt.Errorf("it is of format %d, and this version reads %d", head.Format, cacheFormat)
	}
	if sum := sha256.Sum256(second); hex.EncodeToString(sum[:]) != head.SHA256 {
		return body, errors.New("it is damaged: its checksum differs")
	}
	if err := json.Unmarshal(second, &body); err != nil {
		return cacheBody{}, err
	}
	for name, pods := range body.Pods {
		for _, e := range pods {
			if !e.Address.IsValid() || e.Address.Port() == 0 {
				return cacheBody{}, fmt.Errorf("%s has an endpoint without an address", name)
			}
		}
	}
	return body, nil
}

func (b cacheBody) text() ([]byte, error) {
	second, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(second)
	first, err := json.Marshal(cacheHead{cacheFormat, hex.EncodeToString(sum[:])})
	if err != nil {
		return nil, err
	}
	return append(append(first, '\n'), second...), nil
}

// readCache takes over what the last process knew, or tells why it does not.
func (s *Source) readCache() {
	if s.options.Cache == "" {
		return
	}
	text, err := os.ReadFile(s.options.Cache)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var body cacheBody
	if err == nil {
		body, err = parseCache(text)
	}
	if err == nil && body.Server != s.server {
		err = fmt.Errorf("it is of the API server at %s, and this one is at %s", body.Server, s.server)
	}
	if err != nil {
		s.options.Notify(Notice{"the pods kept in " + s.options.Cache + " are not used; they are read from the API server", err})
		return
	}
	s.cached, s.cachedAt = body.Pods, body.Written
}

// writeCache replaces the cache with what is known now. It is called by Run only.
func (s *Source) writeCache(now time.Time) {
	s.mu.Lock()
	if s.options.Cache == "" || !s.dirty {
		s.mu.Unlock()
		return
	}
	s.dirty, s.written = false, now
	body := cacheBody{Server: s.server, Written: now, Pods: make(map[string]cachedPodSet, len(s.pods))}
	sets := make(map[string]*discovery.EndpointSet, len(s.pods))
	for name, p := range s.pods {
		if p.known {
			sets[name] = p.handle.Load()
		}
		if since, _ := p.stale(); !since.IsZero() && since.Before(body.Written) {
			body.Written = since // a cache is as old as the oldest of what is in it
		}
	}
	if len(s.pods) == 0 && len(s.cached) > 0 {
		s.mu.Unlock() // no rules have come yet: what the last process knew is still the best there is
		return
	}
	s.mu.Unlock()
	for name, set := range sets { // sets are immutable: no lock
		body.Pods[name] = cachedOf(set)
	}
	text, err := body.text()
	if err == nil {
		err = replaceFile(s.options.Cache, text)
	}
	if err != nil {
		s.options.Notify(Notice{"the pods could not be kept in " + s.options.Cache +
			"; a restart without an API server would not find them", err})
	}
}

// replaceFile writes a file whole or not at all.
func replaceFile(path string, text []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, strings.ReplaceAll(filepath.Base(path), "*", "")+".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
