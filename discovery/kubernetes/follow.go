package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// Pauses after the API server has answered that it will not: at most the longest is lost once the reason is gone.
const (
	shortestPause = 250 * time.Millisecond
	longestPause  = 10 * time.Second
)

// A remote is where collections are read; *client is the real one.
type remote interface {
	list(ctx context.Context, k key, o metav1.ListOptions) (runtime.Object, error)
	watch(ctx context.Context, k key, o metav1.ListOptions) (watch.Interface, error)
}

// A sink takes what a follower learns. Its methods are called by one goroutine.
type sink interface {
	// replace is given a whole list, read without a gap; never a part of one.
	replace(items []runtime.Object)
	// apply is given one change: watch.Added, watch.Modified or watch.Deleted.
	apply(event watch.EventType, item runtime.Object)
	// current tells that changes are being received, or no longer: then err says why not.
	current(err error)
}

// A follower keeps a sink equal to a collection: it lists, and then watches from there for as long as the API server
// remembers. It differs from client-go's informers in what banks notice: it tells a list from a change, comes back
// within a quarter of a second of the API server's return, and keeps no object.
type follower struct {
	key  key
	from remote
	to   sink
	gate *gate
}

// errExpired: the API server no longer remembers the version that a watch was to begin at.
var errExpired = errors.New("the version is no longer known")

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) {
	version, pause := "", time.Duration(0)
	var expired time.Time // when a watch last did
	for {
		if f.gate.enter(ctx) != nil {
			return
		}
		opening := f.gate.opening()
		var err error
		version, err = f.once(ctx, version)
		switch {
		case ctx.Err() != nil:
			f.gate.abandoned()
			return
		case err == nil: // the watch ended in its time
			pause = 0
			continue
		case errors.Is(err, errExpired):
			// A new list helps at once, but for a server on which every watch expires.
			at := time.Now()
			version, pause = "", 0
			if at.Sub(expired) < time.Second {
				await(ctx, opening, shortestPause)
			}
			expired = at
			continue
		}
		f.to.current(err)
		if f.gate.failed(err) {
			pause = 0
			continue
		}
		pause = min(max(2*pause, shortestPause), longestPause)
		if await(ctx, opening, pause/2+rand.N(pause)) {
			pause = 0
		}
	}
}

// await waits for a time, or less if the gate opens, which it reports, or ctx ends.
func await(ctx context.Context, opening <-chan struct{}, pause time.Duration) (opened bool) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-opening:
		return true
	case <-timer.C:
	}
	return false
}

// once lists if there is no version to go on from, and watches until the watch ends. It returns the version reached.
func (f *follower) once(ctx context.Context, version string) (string, error) {
	if version == "" {
		var items []runtime.Object
		var err error
		if items, version, err = f.list(ctx); err != nil {
			return "", fmt.Errorf("cannot list the %s: %w", f.key, err)
		}
		f.gate.succeeded()
		f.to.replace(items)
	}
	return f.watch(ctx, version)
}

// list reads every page. A list of which a page is missing is no list.
func (f *follower) list(ctx context.Context) (items []runtime.Object, version string, err error) {
	o := metav1.ListOptions{Limit: pageSize}
	for {
		page, err := f.from.list(ctx, f.key, o)
		if err != nil {
			return nil, "", err
		}
		m, err := meta.ListAccessor(page)
		if err != nil {
			return nil, "", err
		}
		found, err := meta.ExtractList(page)
		if err != nil {
			return nil, "", err
		}
		items = append(items, found...)
		if o.Continue = m.GetContinue(); o.Continue == "" {
			if m.GetResourceVersion() == "" {
				return nil, "", errors.New("the answer has no resourceVersion")
			}
			return items, m.GetResourceVersion(), nil
		}
	}
}

// watch applies changes after version until the watch ends, in its time (nil) or with a fault.
func (f *follower) watch(ctx context.Context, version string) (string, error) {
	seconds := int64((shortestWatch + rand.N(longestWatch-shortestWatch)).Seconds())
	w, err := f.from.watch(ctx, f.key, metav1.ListOptions{
		ResourceVersion: version, AllowWatchBookmarks: true, TimeoutSeconds: &seconds,
	})
	if err != nil {
		return version, watchFault(f.key, err)
	}
	defer w.Stop()
	f.gate.succeeded()
	f.to.current(nil)
	begin, events := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return version, ctx.Err()
		case e, open := <-w.ResultChan():
			if !open {
				if events == 0 && time.Since(begin) < time.Second {
					return version, fmt.Errorf("the watch of the %s ended at once", f.key)
				}
				return version, nil
			}
			events++
			if e.Type == watch.Error {
				return version, watchFault(f.key, apierrors.FromObject(e.Object))
			}
			m, err := meta.Accessor(e.Object)
			if err != nil {
				return version, fmt.Errorf("the watch of the %s sent what is no object: %w", f.key, err)
			}
			switch e.Type {
			case watch.Added, watch.Modified, watch.Deleted:
				f.to.apply(e.Type, e.Object)
			}
			version = m.GetResourceVersion()
		}
	}
}

// watchFault marks what only another list can remedy.
func watchFault(k key, err error) error {
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) ||
		apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
		return errExpired
	}
	return fmt.Errorf("cannot watch the %s: %w", k, err)
}
