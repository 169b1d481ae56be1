package keep
import (
 _ "github.com/valyala/fasthttp"
 _ "github.com/prometheus/client_golang/prometheus/promhttp"
 _ "github.com/hashicorp/golang-lru/v2"
 _ "go.uber.org/zap"
 _ "github.com/stretchr/testify/require"
 _ "go.yaml.in/yaml/v3"
 _ "github.com/spf13/cobra"
 _ "github.com/cespare/xxhash/v2"
 _ "go.uber.org/goleak"
 _ "golang.org/x/text/encoding/simplifiedchinese"
 _ "github.com/danielgtaylor/huma/v2/adapters/humago"
 _ "github.com/gaissmai/bart"
 _ "golang.org/x/sync/errgroup"
)
