package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"

	"tellergate/bench/load"
)

// Names of contenders. Those that are tellergate in other circumstances begin with its name.
const (
	tellergate  = "tellergate"
	haproxy     = "HAProxy"
	nginx       = "nginx"
	naive       = "naive fasthttp"
	forwarder   = "TCP forwarder"
	haproxyTCP  = "HAProxy, mode tcp"
	noProxy     = "no proxy"
	tenRules    = "tellergate, 10 rules"
	manyRules   = "tellergate, 1,000 rules"
	mostRules   = "tellergate, 100,000 rules"
	withSwaps   = "tellergate, rules replaced ten times a second"
	withoutLogs = "tellergate, access log off"
	withRedis   = "tellergate, pins in Redis"
	variant     = "tellergate, the other build"
)

// rulesOf is how many rules a contender runs with besides the one that names the list.
var rulesOf = map[string]int{tenRules: 10, manyRules: 1_000, mostRules: 100_000}

// newContender starts a contender in a directory of its own.
func (b *bench) newContender(name string) (*contender, error) {
	dir, err := os.MkdirTemp(b.dir, "contender-")
	if err != nil {
		return nil, err
	}
	c := &contender{name: name, dir: dir, log: filepath.Join(dir, "access.log")}
	switch name {
	case haproxy, haproxyTCP:
		err = b.startHAProxy(c)
	case nginx:
		err = b.startNginx(c)
	case naive:
		err = b.startNaive(c)
	case forwarder:
		c.blind, c.log = true, ""
		err = c.launch(b.proxyCore, b.self, "forward", b.loop.Pods()[0].Address.String())
	case noProxy:
		c.blind, c.log, c.target = true, "", b.loop.Pods()[0].Address
	default:
		err = b.startTellergate(c)
	}
	if err != nil {
		c.stop()
		return nil, err
	}
	return c, nil
}

// pods returns the addresses of one version's pods.
func (b *bench) pods(version byte) []string {
	var addresses []string
	for _, p := range b.loop.Pods() {
		if p.Version == version {
			addresses = append(addresses, p.Address.String())
		}
	}
	return addresses
}

const manyFiles = 1 << 16

// allowFiles raises the limit of descriptors as far as is useful and allowed.
func allowFiles() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil || limit.Cur >= manyFiles {
		return
	}
	wanted := syscall.Rlimit{Cur: manyFiles, Max: max(manyFiles, limit.Max)}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &wanted) != nil { // only root may go beyond the maximum
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
}

// openFiles is how many descriptors a contender may have: as many as this machine allows, and not absurdly many.
func openFiles() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return min(limit.Max, manyFiles)
}

// pilots returns the 100,000 tellers whose version is 2.
func pilots() []string {
	var tellers []string
	for i := 0; i < load.Tellers; i += 2 {
		tellers = append(tellers, load.Teller(i))
	}
	return tellers
}

// write renders a template into a file of the contender.
func (c *contender) write(name, text string, values any) error {
	t, err := template.New(name).Option("missingkey=error").Parse(text)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, values); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.dir, name), out.Bytes(), 0o600)
}

const tellergateSettings = `
frontends:
  - name: counter
    address: {{.Address}}
    {{- if .TLS}}
    tls: {certificate: {{.TLS}}.pem, key: {{.TLS}}.key}
    {{- end}}
    trust: {identity: [127.0.0.0/8]}
identity:
  legalEntity: {header: X-Legal-Entity, default: "9001"}
  branch: {header: X-Branch-Id, within: legalEntity}
  teller: {header: X-Teller-Id, within: legalEntity}
  session: {cookie: JSESSIONID, header: X-Session-Id, claim: false}
rules: {path: data}
admin: {address: "{{.Admin}}"}
accessLog: {path: {{.Log}}}
upstream: {perEndpoint: 4096}
shutdown: {delay: 0s, grace: 2s}
{{- if .Redis}}
sessions: {store: redis, redis: {addresses: ["{{.Redis}}"], secretFile: secret, entries: {{.Copies}}, budget: 500ms}}
{{- end}}
`

// copies is how many pin keys are remembered where pins are in Redis: so few that no session is still known when its next
// turn comes.
const copies = 256

const tellergateRules = `
services:
  - name: counter
    match: {frontends: [counter], pathPrefix: /}
    default: v1
    versions:
      - {name: v1, pods: {static: [{{range .One}}"{{.}}", {{end}}]}}
      - {name: v2, pods: {static: [{{range .Two}}"{{.}}", {{end}}]}}
    sessions: {key: [session], subject: teller, idle: 30m, absolute: 10h}
    rules:
      - {name: pilots, priority: 1, when: {attribute: teller, inList: pilots}, then: {version: v2}}
{{range .More}}      - {name: branch-{{.}}, priority: {{.}}, when: {attribute: branch, is: "9001/b{{.}}"}, then: {version: v2}}
{{end}}`

func (b *bench) startTellergate(c *contender) error {
	var err error
	if c.target, err = freeAddress(); err != nil {
		return err
	}
	admin, err := freeAddress()
	if err != nil {
		return err
	}
	c.admin = "http://" + admin.String()
	log := c.log
	if c.name == withoutLogs {
		log, c.log = "off", ""
	}
	redis := ""
	if c.name == withRedis {
		if c.redis, err = b.startRedis(c.dir); err != nil {
			return err
		}
		redis = c.redis.target.String()
		if err := c.write("secret", "0123456789abcdef0123456789abcdef", nil); err != nil {
			return err
		}
	}
	if err := c.write("tellergate.yaml", tellergateSettings, map[string]any{
		"Address": c.target, "Admin": admin, "Log": log, "Redis": redis, "Copies": copies, "TLS": b.tls}); err != nil {
		return err
	}
	program := b.tellergate
	if c.name == variant {
		program = b.variant
	}
	if err := c.launch(b.proxyCore, program, "--settings", filepath.Join(c.dir, "tellergate.yaml")); err != nil {
		return err
	}
	list := struct {
		Attribute string   `json:"attribute"`
		Values    []string `json:"values"`
	}{"teller", nil}
	for _, teller := range pilots() {
		list.Values = append(list.Values, "9001/"+teller)
	}
	body, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := c.put("/api/v1/lists/pilots", "application/json", body); err != nil {
		return err
	}
	var more []int
	for i := range rulesOf[c.name] {
		more = append(more, i+2)
	}
	if err := c.write("rules.yaml", tellergateRules, map[string]any{
		"One": b.pods('1'), "Two": b.pods('2'), "More": more}); err != nil {
		return err
	}
	if c.hasMillion() {
		if err := c.addMillion(); err != nil {
			return err
		}
	}
	return c.putRules(0)
}

// startRedis starts a Redis that keeps nothing on disk, on the core of generator and pods.
func (b *bench) startRedis(dir string) (*contender, error) {
	at, err := freeAddress()
	if err != nil {
		return nil, err
	}
	r := &contender{name: "Redis", target: at, dir: filepath.Join(dir, "redis")}
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return nil, err
	}
	if err := r.launch(b.loadCore, "redis-server", "--bind", at.Addr().String(), "--port", fmt.Sprint(at.Port()), "--save", "",
		"--appendonly", "no"); err != nil {
		r.stop()
		return nil, err
	}
	return r, r.count()
}

// putRules replaces the rules by those of the contender's file. The mark makes them a text of their own: the same text
// again would be no revision.
func (c *contender) putRules(mark int) error {
	text, err := os.ReadFile(filepath.Join(c.dir, "rules.yaml"))
	if err != nil {
		return err
	}
	return c.put("/api/v1/rules", "application/yaml", fmt.Appendf(text, "# %d\n", mark))
}

// put writes to tellergate's admin API, on top of whatever is there.
func (c *contender) put(path, contentType string, body []byte) error {
	client := http.Client{Timeout: time.Minute}
	answer, err := client.Get(c.admin + "/api/v1/rules")
	if err != nil {
		return err
	}
	_ = answer.Body.Close()
	head := answer.Header.Get("ETag")
	if head == "" {
		head = `"0"`
	}
	request, err := http.NewRequest(http.MethodPut, c.admin+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("If-Match", head)
	if answer, err = client.Do(request); err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 4096))
		return fmt.Errorf("tellergate answered PUT %s with %s: %s", path, answer.Status, text)
	}
	return nil
}

// HAProxy logs into a ring that it sends on in batches over TCP: its cheapest way that loses nothing.
const haproxySettings = `
global
  nbthread 1
  maxconn {{.Connections}}
  ulimit-n {{.Files}}
  no strict-limits
  {{- if .TLS}}
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
  {{- end}}
  log ring@access format raw local0 info
ring access
  format raw
  size 16777216
  timeout connect 2s
  timeout server 60s
  server sink {{.Sink}}
defaults
  timeout connect 2s
  timeout client 75s
  timeout server 60s
  timeout http-keep-alive 75s
{{- if .TCP}}
listen tcp
  mode tcp
  bind {{.Address}}
  server pod {{index .One 0}}
{{- else}}
frontend counter
  mode http
  bind {{.Address}}{{if .TLS}} ssl crt {{.TLS}}.both{{end}}
  log global
  option httplog
  option forwardfor
  use_backend %[req.hdr(X-Teller-Id),map_str({{.Map}},v1)]
  default_backend v1 # of who is no teller: without the header there is nothing to look up
{{range $name, $pods := .Versions}}
backend {{$name}}
  mode http
  balance leastconn
  http-reuse safe
  stick-table type string len 32 size 1m expire 30m
  stick on req.hdr(X-Session-Id)
{{range $i, $pod := $pods}}  server pod{{$i}} {{$pod}}
{{end}}{{end}}
{{- end}}
`

func (b *bench) startHAProxy(c *contender) error {
	c.log, c.blind = "", c.name == haproxyTCP
	var err error
	if c.target, err = freeAddress(); err != nil {
		return err
	}
	var values strings.Builder
	for _, teller := range pilots() {
		values.WriteString(teller + " v2\n")
	}
	if err := os.WriteFile(filepath.Join(c.dir, "map"), []byte(values.String()), 0o600); err != nil {
		return err
	}
	if err := c.write("haproxy.cfg", haproxySettings, map[string]any{
		"Address": c.target, "TLS": b.tls, "Connections": connectionLimit, "Files": openFiles(), "Sink": b.loop.Sink(), "TCP": c.blind,
		"Map": filepath.Join(c.dir, "map"), "One": b.pods('1'),
		"Versions": map[string][]string{"v1": b.pods('1'), "v2": b.pods('2')},
	}); err != nil {
		return err
	}
	return c.launch(b.proxyCore, "haproxy", "-db", "-f", filepath.Join(c.dir, "haproxy.cfg"))
}

// nginx has no sessions that survive a change of its pods; a hash of the session's id comes closest.
const nginxSettings = `
{{if .Root}}user root;{{end}}
daemon off;
worker_processes 1;
worker_rlimit_nofile {{.Files}};
pid {{.Dir}}/pid;
error_log stderr;
events { worker_connections {{.Connections}}; }
http {
  access_log {{.Log}} combined buffer=64k flush=1s;
  keepalive_timeout 75s;
  keepalive_requests 1000000000;
  client_body_buffer_size 128k;
  client_body_temp_path {{.Dir}}/body;
  proxy_temp_path {{.Dir}}/proxy;
  fastcgi_temp_path {{.Dir}}/fastcgi;
  uwsgi_temp_path {{.Dir}}/uwsgi;
  scgi_temp_path {{.Dir}}/scgi;
  proxy_buffers 8 32k;
  proxy_max_temp_file_size 0;
  map_hash_max_size 262144;
  map_hash_bucket_size 128;
  map $http_x_teller_id $version {
    default v1;
    include {{.Map}};
  }
{{range $name, $pods := .Versions}}  upstream {{$name}} {
    hash $http_x_session_id consistent;
{{range $pods}}    server {{.}};
{{end}}    keepalive 1024;
    keepalive_requests 1000000000;
  }
{{end}}
  server {
    listen {{.Address}} backlog=4096{{if .TLS}} ssl{{end}};
{{- if .TLS}}
    ssl_certificate {{.TLS}}.pem;
    ssl_certificate_key {{.TLS}}.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
{{- end}}
    location / {
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_pass http://$version;
    }
  }
}
`

func (b *bench) startNginx(c *contender) error {
	var err error
	if c.target, err = freeAddress(); err != nil {
		return err
	}
	var values strings.Builder
	for _, teller := range pilots() {
		values.WriteString(teller + " v2;\n")
	}
	if err := os.WriteFile(filepath.Join(c.dir, "map"), []byte(values.String()), 0o600); err != nil {
		return err
	}
	if err := c.write("nginx.conf", nginxSettings, map[string]any{
		"Root": os.Getuid() == 0, "Dir": c.dir, "Address": c.target, "TLS": b.tls, "Connections": 2 * connectionLimit, "Files": openFiles(), "Log": c.log,
		"Map":      filepath.Join(c.dir, "map"),
		"Versions": map[string][]string{"v1": b.pods('1'), "v2": b.pods('2')},
	}); err != nil {
		return err
	}
	return c.launch(b.proxyCore, "nginx", "-p", c.dir, "-c", filepath.Join(c.dir, "nginx.conf"))
}

func (b *bench) startNaive(c *contender) error {
	list := filepath.Join(c.dir, "list")
	if err := os.WriteFile(list, []byte(strings.Join(pilots(), "\n")), 0o600); err != nil {
		return err
	}
	return c.launch(b.proxyCore, b.naive, "-log", c.log, "-list", list, "-tls", b.tls,
		"-pods", strings.Join(b.pods('1'), ",")+";"+strings.Join(b.pods('2'), ","))
}
