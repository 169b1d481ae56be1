package admin

import (
	"mime"
	"strconv"
	"strings"
)

// quality returns how much an Accept header wants a media type, 0 to 1: the most specific of its ranges that covers
// the type decides (RFC 9110, section 12.5.1). What cannot be read is passed over.
func quality(accept, offer string) float64 {
	kind, _, _ := strings.Cut(offer, "/")
	best, q := -1, 0.0
	for _, part := range strings.Split(accept, ",") {
		media, parameters, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		specific := -1
		switch media {
		case offer:
			specific = 2
		case kind + "/*":
			specific = 1
		case "*/*":
			specific = 0
		}
		if specific <= best {
			continue
		}
		best, q = specific, 1
		if text, ok := parameters["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				q = 0
			}
		}
	}
	return q
}
