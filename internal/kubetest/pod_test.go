package kubetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// leave is how long a pod serves after it was told to end: what docs/kubernetes.md tells customers.
const leave = 5 * time.Second

// servePod plays a pod: it answers who it is, and writes down every POST that it executes. It does not return.
func servePod() {
	ledger, err := os.OpenFile(os.Getenv("POD_LEDGER"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		fmt.Fprintln(os.Stderr, "pod:", err)
		os.Exit(1)
	}
	var leaving atomic.Bool
	listener, err := net.Listen("tcp", os.Getenv(podVariable))
	if err != nil {
		fmt.Fprintln(os.Stderr, "pod:", err)
		os.Exit(1)
	}
	door := &door{TCPListener: listener.(*net.TCPListener)}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		if q.Method == http.MethodPost {
			// One write is one line, whoever else writes; a line that is there was executed even if the pod then dies.
			_, _ = fmt.Fprintln(ledger, q.Header.Get("X-Serial"))
		}
		if leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		w.Header().Set("X-Pod", os.Getenv("POD_NAME"))
		_, _ = io.WriteString(w, os.Getenv("POD_VERSION"))
	})}
	terminated, served := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(terminated, syscall.SIGTERM)
	go func() {
		<-terminated
		if os.Getenv("POD_ABRUPT") != "" {
			os.Exit(0)
		}
		leaving.Store(true)
		time.Sleep(leave)
		_ = door.SetDeadline(time.Now())
		<-served
		_ = server.Shutdown(context.Background())
		os.Exit(0)
	}()
	if err := server.Serve(door); !errors.Is(err, net.ErrClosed) {
		fmt.Fprintln(os.Stderr, "pod:", err)
		os.Exit(1)
	}
	close(served)
	select {}
}

// A door is a listener that closes without resetting anybody: once its deadline has passed it takes over the connections
// that the kernel has made already, and only then closes.
type door struct {
	*net.TCPListener
	last   []net.Conn
	closed bool
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	if !d.closed {
		nc, err := d.TCPListener.Accept()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nc, err
		}
		d.closed = true
		d.takeLast()
	}
	if len(d.last) == 0 {
		return nil, net.ErrClosed
	}
	nc := d.last[0]
	d.last = d.last[1:]
	return nc, nil
}

func (d *door) takeLast() {
	var all []int
	if raw, err := d.SyscallConn(); err == nil {
		_ = raw.Control(func(socket uintptr) {
			for {
				fd, _, err := syscall.Accept4(int(socket), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
				if err != nil {
					return
				}
				all = append(all, fd)
			}
		})
	}
	_ = d.TCPListener.Close()
	for _, fd := range all {
		file := os.NewFile(uintptr(fd), "connection")
		if nc, err := net.FileConn(file); err == nil {
			d.last = append(d.last, nc)
		}
		_ = file.Close()
	}
}
