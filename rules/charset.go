package rules

import (
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/text/encoding/simplifiedchinese"

	"tellergate/internal/problem"
)

// DecodeText returns CSV text in UTF-8. charset is the name under which the text was declared: utf-8 (or empty),
// gb18030, or one of its forerunners gbk, gb2312; known is false for others. The error is a problem.List that names the
// first byte that is not of the charset.
func DecodeText(text []byte, charset string) (decoded []byte, known bool, err error) {
	switch strings.ToLower(charset) {
	case "", "utf-8", "utf8":
		return text, true, nil
	case "gb18030", "gbk", "gb2312":
	default:
		return nil, false, nil
	}
	decoded, err = simplifiedchinese.GB18030.NewDecoder().Bytes(text)
	if err != nil {
		return nil, true, problem.List{{Message: "the text is not GB18030: " + err.Error(), Remedy: "save it as UTF-8"}}
	}
	// The decoder writes the replacement character for what it cannot read.
	if at := bytes.Index(decoded, []byte("\ufffd")); at >= 0 {
		line := 1 + bytes.Count(decoded[:at], []byte{'\n'})
		start := bytes.LastIndexByte(decoded[:at], '\n') + 1
		return nil, true, problem.List{{
			Line: line, Column: len([]rune(string(decoded[start:at]))) + 1,
			Message: fmt.Sprintf("the text is not GB18030, although it is declared as %s", charset),
			Remedy:  "declare the charset that it is in, or save it as UTF-8",
		}}
	}
	return decoded, true, nil
}
