package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/transport"
	"k8s.io/klog/v2"
)

const (
	pageSize    = 500              // objects in one answer to a list
	listTimeout = 30 * time.Second // for one such answer
	// A watch is ended by the server after a random time between these, so that a silent one is not believed for ever.
	shortestWatch, longestWatch = 3 * time.Minute, 6 * time.Minute
)

// A client speaks to one API server. It knows the three kinds of objects that discovery reads and no other.
type client struct {
	host   string
	slices rest.Interface
	core   rest.Interface
	pods   metadata.Interface
	codec  runtime.ParameterCodec
}

// newClient reads the configuration; it opens no connection. An empty kubeconfig means the service account of the pod
// that tellergate runs in.
func newClient(kubeconfig, userAgent string) (*client, error) {
	config, err := restConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	config.UserAgent = userAgent
	if file := config.BearerTokenFile; file != "" {
		// client-go alone reads the file once a minute; a token that was rejected is worth another look at once.
		config.BearerToken, config.BearerTokenFile = "", ""
		config.Wrap(transport.ResettableTokenSourceWrapTransport(transport.NewCachedFileTokenSource(file)))
	}
	config.QPS = -1 // the gate and the pauses of followers bound what is asked
	config.WarningHandler = rest.NoWarnings{}
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	way, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("the credentials for the API server cannot be used: %w", err)
	}
	known := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{discoveryv1.AddToScheme, corev1.AddToScheme} {
		if err := add(known); err != nil {
			return nil, err
		}
	}
	metav1.AddToGroupVersion(known, schema.GroupVersion{Version: "v1"})
	config.NegotiatedSerializer = serializer.NewCodecFactory(known).WithoutConversion()
	c := &client{host: config.Host, codec: runtime.NewParameterCodec(known)}
	group := func(path string, version schema.GroupVersion) (rest.Interface, error) {
		of := rest.CopyConfig(config)
		of.APIPath, of.GroupVersion = path, &version
		return rest.RESTClientForConfigAndClient(of, way)
	}
	if c.slices, err = group("/apis", discoveryv1.SchemeGroupVersion); err != nil {
		return nil, err
	}
	if c.core, err = group("/api", corev1.SchemeGroupVersion); err != nil {
		return nil, err
	}
	if c.pods, err = metadata.NewForConfigAndClient(config, way); err != nil {
		return nil, err
	}
	return c, nil
}

func restConfig(kubeconfig string) (*rest.Config, error) {
	// client-go complains into a global log of its own; what matters reaches operators through Notify.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	if kubeconfig == "" {
		config, err := rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, errors.New("this process does not run in a Kubernetes pod: name a kubeconfig file in discovery.kubernetes.kubeconfig")
		}
		if err != nil {
			return nil, fmt.Errorf("the service account of this pod cannot be used: %w", err)
		}
		return config, nil
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("the kubeconfig %s cannot be used: %w", kubeconfig, err)
	}
	return config, nil
}

// A kind is what a collection holds.
type kind uint8

const (
	kindSlices kind = iota
	kindEndpoints
	kindPods
)

// A key names a collection: the objects of one kind in a namespace that belong to one service or carry some labels.
type key struct {
	kind      kind
	namespace string
	selects   string // the service's name; for pods a label selector
}

// String names the collection in messages.
func (k key) String() string {
	switch k.kind {
	case kindSlices:
		return fmt.Sprintf("EndpointSlices of service %s/%s", k.namespace, k.selects)
	case kindEndpoints:
		return fmt.Sprintf("Endpoints %s/%s", k.namespace, k.selects)
	}
	return fmt.Sprintf("pods in %s with %s", k.namespace, k.selects)
}

// narrow completes options so that they select what the key names and nothing else.
func (k key) narrow(o *metav1.ListOptions) {
	switch k.kind {
	case kindSlices:
		o.LabelSelector = labels.Set{discoveryv1.LabelServiceName: k.selects}.String()
	case kindEndpoints:
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", k.selects).String()
	case kindPods:
		o.LabelSelector = k.selects
	}
}

func (c *client) request(k key) *rest.Request {
	if k.kind == kindSlices {
		return c.slices.Get().Namespace(k.namespace).Resource("endpointslices").MaxRetries(0)
	}
	return c.core.Get().Namespace(k.namespace).Resource("endpoints").MaxRetries(0)
}

var podResource = corev1.SchemeGroupVersion.WithResource("pods")

// list returns one page of a collection.
func (c *client) list(ctx context.Context, k key, o metav1.ListOptions) (runtime.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	k.narrow(&o)
	switch k.kind {
	case kindSlices:
		page := new(discoveryv1.EndpointSliceList)
		return page, c.request(k).VersionedParams(&o, c.codec).Do(ctx).Into(page)
	case kindEndpoints:
		page := new(corev1.EndpointsList)
		return page, c.request(k).VersionedParams(&o, c.codec).Do(ctx).Into(page)
	}
	page, err := c.pods.Resource(podResource).Namespace(k.namespace).List(ctx, o)
	return page, err
}

// watch begins to stream the changes of a collection.
func (c *client) watch(ctx context.Context, k key, o metav1.ListOptions) (watch.Interface, error) {
	k.narrow(&o)
	if k.kind == kindPods {
		return c.pods.Resource(podResource).Namespace(k.namespace).Watch(ctx, o)
	}
	o.Watch = true
	return c.request(k).VersionedParams(&o, c.codec).Timeout(time.Duration(*o.TimeoutSeconds) * time.Second).Watch(ctx)
}

// check asks whether the API server serves the kind of object that pods are found through.
func (c *client) check(ctx context.Context, legacy bool) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	path := "/apis/" + discoveryv1.SchemeGroupVersion.String()
	if legacy {
		path = "/api/v1"
	}
	resources := new(metav1.APIResourceList)
	raw, err := c.core.Get().AbsPath(path).MaxRetries(0).SetHeader("Accept", "application/json").DoRaw(ctx)
	if err != nil {
		return err
	}
	if err := runtime.DecodeInto(serializer.NewCodecFactory(runtime.NewScheme()).UniversalDeserializer(), raw, resources); err != nil {
		return nil // a server that answers in a newer form is judged by its answers to lists
	}
	return nil
}

// transportFault reports whether err came from the way to the API server rather than from the API server.
func transportFault(err error) bool {
	var status interface{ Status() metav1.Status }
	var location *url.Error
	return !errors.As(err, &status) || errors.As(err, &location)
}
