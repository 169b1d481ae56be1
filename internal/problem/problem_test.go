package problem

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestString(t *testing.T) {
	assert.Equal(t, "3:7: a[b].c: the number 1 is odd; write 2",
		Problem{Path: "a[b].c", Line: 3, Column: 7, Message: "the number 1 is odd", Remedy: "write 2"}.String())
	assert.Equal(t, "nothing else", Problem{Message: "nothing else"}.String())
}

func TestErr(t *testing.T) {
	assert.NoError(t, List{}.Err())
	assert.EqualError(t, List{{Message: "a"}, {Message: "b"}}.Err(), "a\nb")
}

func TestElements(t *testing.T) {
	assert.Equal(t, []string{"a", "1", "2", "b"}, Elements([]string{"a", "", "a", "b"}))
}
