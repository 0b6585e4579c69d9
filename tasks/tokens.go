package tasks

import (
	"errors"
	"fmt"
	"strings"
)

// Tokenizer is what the protocols need of a tokenizer.
type Tokenizer interface {
	// Encode returns the token ids of text; special asks for the tokenizer's own BOS/EOS template around them.
	Encode(text string, special bool) []int32
	// BOS and EOS return the ids of the two special tokens, if the tokenizer has them.
	BOS() (id int32, ok bool)
	EOS() (id int32, ok bool)
	// BOSText is the surface text of the BOS token, "" if there is none.
	BOSText() string
}

// Pair is a request in token ids.
type Pair struct {
	Context, Continuation []int32
	// Fallback says that the joint encoding left no token for the continuation, which was then encoded alone. The reference software
	// aborts there; callers count the event.
	Fallback bool
}

// ErrEmptyContinuation marks a continuation that has no tokens at all, so that nothing can be scored.
var ErrEmptyContinuation = errors.New("continuation has no tokens")

// ErrEmptyContext marks a context without tokens, after which the first token of the continuation has no prediction.
var ErrEmptyContext = errors.New("context has no tokens")

// ErrTooLong marks a continuation that does not fit the model's length. A continuation is never cut: callers leave the document out and
// count it, where the reference software aborts.
var ErrTooLong = errors.New("continuation is longer than the model's maximum length")

// encoder encodes texts as one protocol does.
type encoder struct {
	tok Tokenizer
	bos []int32 // put before every text, unless the text itself begins with it
}

func newEncoder(p Protocol, tok Tokenizer) encoder {
	e := encoder{tok: tok}
	if p == JointBOS {
		// Only the BOS of the template counts: a template's EOS after the context would cut it off from the continuation.
		if id, ok := tok.BOS(); ok {
			if t := tok.Encode("", true); len(t) > 0 && t[0] == id {
				e.bos = []int32{id}
			}
		}
	}
	return e
}

// plain encodes without special tokens, except that BOS text at the start of the text is the BOS token.
func (e encoder) plain(text string) []int32 {
	if t := e.tok.BOSText(); t != "" && strings.HasPrefix(text, t) {
		if id, ok := e.tok.BOS(); ok {
			return append([]int32{id}, e.tok.Encode(text[len(t):], false)...)
		}
	}
	return e.tok.Encode(text, false)
}

// full encodes with BOS if the protocol has one. A BOS text at the start of the text is not doubled.
func (e encoder) full(text string) []int32 {
	if len(e.bos) == 0 {
		return e.plain(text)
	}
	return append([]int32{e.bos[0]}, e.tok.Encode(strings.TrimPrefix(text, e.tok.BOSText()), false)...)
}

// PrefixToken returns the token that stands for an empty context: BOS, else EOS; under Legacy always EOS.
func PrefixToken(p Protocol, tok Tokenizer) (int32, error) {
	if id, ok := tok.BOS(); ok && p != Legacy {
		return id, nil
	}
	if id, ok := tok.EOS(); ok {
		return id, nil
	}
	if p == Legacy {
		return 0, errors.New("tokenizer has no EOS token, expected one to stand for an empty context")
	}
	return 0, errors.New("tokenizer has neither BOS nor EOS, expected one to stand for an empty context")
}

// Tokenize turns a request into token ids. The joint protocols move white space at the end of the context to the continuation, encode
// both together and cut where the encoding of the context ends; Legacy encodes the two apart. Errors wrap ErrEmptyContinuation or
// ErrEmptyContext. The caller owns the result.
func Tokenize(p Protocol, tok Tokenizer, r Request) (Pair, error) {
	if _, err := ParseProtocol(string(p)); err != nil {
		return Pair{}, err
	}
	e := newEncoder(p, tok)
	var pair Pair
	switch {
	case r.Context == "":
		prefix, err := PrefixToken(p, tok)
		if err != nil {
			return Pair{}, err
		}
		pair = Pair{Context: []int32{prefix}, Continuation: e.plain(r.Continuation)}
		// Legacy has no such rule: there the continuation is scored whole.
		if p != Legacy && len(pair.Continuation) > 0 && pair.Continuation[0] == prefix {
			pair.Continuation = pair.Continuation[1:]
		}
	case p == Legacy:
		pair = Pair{Context: e.plain(r.Context), Continuation: e.plain(r.Continuation)}
	default:
		context := rstrip(r.Context)
		continuation := r.Context[len(context):] + r.Continuation
		whole := e.full(context + continuation)
		pair.Context = e.full(context)
		if len(whole) > len(pair.Context) {
			pair.Continuation = whole[len(pair.Context):]
		} else {
			pair.Continuation = e.tok.Encode(continuation, false)
			pair.Fallback = true
		}
	}
	if len(pair.Continuation) == 0 {
		return Pair{}, fmt.Errorf("%w: %q after the context %q", ErrEmptyContinuation, clip(r.Continuation), tail(r.Context))
	}
	if len(pair.Context) == 0 {
		return Pair{}, fmt.Errorf("%w: %q, before the continuation %q", ErrEmptyContext, tail(r.Context), clip(r.Continuation))
	}
	return pair, nil
}

// tail shortens a text for a message, keeping its end.
func tail(s string) string {
	if len(s) <= 40 {
		return s
	}
	cut := s[len(s)-40:]
	for cut != "" && cut[0]&0xc0 == 0x80 {
		cut = cut[1:]
	}
	return "…" + cut
}

// Input returns what the model sees of a pair, at most maxLength tokens, and the tokens that the last len(targets) rows of its output
// predict. Tokens are dropped on the left only; droppedLeft counts them. A continuation of more than maxLength tokens is an error that
// wraps ErrTooLong. Both slices share one new array; the pair is not changed.
func Input(pair Pair, maxLength int) (input, targets []int32, droppedLeft int, err error) {
	n := len(pair.Continuation)
	switch {
	case n == 0:
		return nil, nil, 0, ErrEmptyContinuation
	case len(pair.Context) == 0:
		return nil, nil, 0, ErrEmptyContext
	case n > maxLength:
		return nil, nil, 0, fmt.Errorf("%w: %d tokens, expected at most %d", ErrTooLong, n, maxLength)
	}
	all := make([]int32, 0, len(pair.Context)+n)
	all = append(append(all, pair.Context...), pair.Continuation...)
	droppedLeft = max(0, len(all)-maxLength-1)
	all = all[droppedLeft:]
	return all[: len(all)-1 : len(all)-1], all[len(all)-n:], droppedLeft, nil
}

// Window is one forward pass of a rolling perplexity: the last len(Targets) rows of the output for Input predict Targets.
type Window struct {
	Input, Targets []int32
}

// RollingTokens returns the tokens of a text that a rolling perplexity scores, and the token that precedes the first. Under JointBOS the
// tokens begin with BOS themselves, so BOS is predicted from BOS.
func RollingTokens(p Protocol, tok Tokenizer, text string) (tokens []int32, prefix int32, err error) {
	if _, err := ParseProtocol(string(p)); err != nil {
		return nil, 0, err
	}
	if prefix, err = PrefixToken(p, tok); err != nil {
		return nil, 0, err
	}
	return newEncoder(p, tok).full(text), prefix, nil
}

// RollingWindows cuts a text's tokens so that each is predicted once: the first window predicts up to maxLength tokens after prefix, each
// next one up to maxLength more; the last window reads earlier tokens again to be full. No tokens give no windows. It panics if maxLength
// is below 1.
func RollingWindows(tokens []int32, prefix int32, maxLength int) []Window {
	if maxLength < 1 {
		panic("tasks: RollingWindows wants a positive length")
	}
	// With the prefix in front, the token at position i of all is predicted from the tokens before it.
	all := append([]int32{prefix}, tokens...)
	var out []Window
	for done := 0; done < len(tokens); {
		n := min(maxLength, len(tokens)-done)
		end := done + n
		start := done
		if done > 0 {
			start = end - maxLength
		}
		out = append(out, Window{Input: all[start:end:end], Targets: all[done+1 : end+1 : end+1]})
		done = end
	}
	return out
}
