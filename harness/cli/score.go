package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"splitbench/harness/exec"
	"splitbench/tasks"
)

// payloadJSON is the form of payload bytes by part in JSON output.
type payloadJSON struct {
	Total  int `json:"total"`
	Header int `json:"header"`
	Tables int `json:"tables"`
	Codes  int `json:"codes"`
	Side   int `json:"side"`
	Sparse int `json:"sparse"`
	KV     int `json:"kv"`
	Tokens int `json:"tokens"` // rows sent
}

func payloadOf(p exec.Payload) *payloadJSON {
	h := p.Hidden
	return &payloadJSON{h.Total() + p.KV.Total(), h.Header, h.Tables, h.Codes, h.Side, h.Sparse, p.KV.Total(), p.Tokens}
}

// scoreAnswer is one line of output of the verb score.
type scoreAnswer struct {
	LogProb       float64      `json:"logprob"`
	Tokens        int          `json:"tokens"`
	Greedy        bool         `json:"greedy"`
	IDs           []int32      `json:"ids"`
	Continuation  []int32      `json:"continuation_ids"`
	TokenLogProbs []float64    `json:"token_logprobs"`
	DroppedLeft   int          `json:"dropped_left,omitempty"`
	Payload       *payloadJSON `json:"payload_bytes,omitempty"`
}

// scoreRequest is one line of its input.
type scoreRequest struct {
	Context         *string  `json:"context"`
	Continuation    *string  `json:"continuation"`
	ContextIDs      *[]int32 `json:"context_ids"`
	ContinuationIDs *[]int32 `json:"continuation_ids"`
}

// scoreChunk is how many requests are computed before their answers are
// written.
const scoreChunk = 1024

func newScore(s streams) *cobra.Command {
	var f modelFlags
	var requests, out, protocol string
	c := &cobra.Command{
		Use:   "score --model DIR --requests FILE|-",
		Short: "Log-probability of continuations, one JSON request per line",
		Long: `A request is {"context":"...","continuation":"..."} or
{"context_ids":[...],"continuation_ids":[...]} (ids are taken as they are: no BOS
is added). The answer, on the line of the same number, is
{"logprob":-12.34,"tokens":5,"greedy":false,"ids":[...],"continuation_ids":[...],
"token_logprobs":[...]}: tokens counts the continuation, ids is the input that the
model read (context and continuation without its last token, cut on the left to
--max-length; dropped_left says by how many), token_logprobs belong to
continuation_ids. With --method, payload_bytes holds the bytes sent, by part of the
message.

A request that cannot be scored is answered by {"error":"..."} and makes the exit
code 1; the others are scored.`,
		Example: `  echo '{"context":"Once upon a","continuation":" time"}' | splitbench score --model DIR --requests -`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := tasks.ParseProtocol(protocol)
			if err != nil {
				return usageError{err}
			}
			r, err := s.openInput(requests)
			if err != nil {
				return usageError{err}
			}
			defer r.Close()
			l, session, err := f.open(cmd.Context(), s.err)
			if err != nil {
				return err
			}
			defer l.Close()
			failed := 0
			err = s.writeOutput(out, func(w io.Writer) error {
				pr := newPrinter(w)
				n, err := scoreLines(cmd.Context(), l, session, p, r, displayName(requests), f.method != "", pr)
				failed = n
				return errors.Join(err, pr.flush())
			})
			if err != nil {
				return err
			}
			if failed > 0 {
				return fmt.Errorf("%d requests could not be scored, their answers hold \"error\"", failed)
			}
			return nil
		},
	}
	f.add(c, true)
	c.Flags().StringVar(&requests, "requests", "", "file of requests, - for standard input")
	c.Flags().StringVar(&out, "out", "-", "output file")
	c.Flags().StringVar(&protocol, "protocol", string(tasks.JointBOS), "legacy, joint-nobos or joint-bos")
	cobra.CheckErr(c.MarkFlagRequired("requests"))
	return c
}

func scoreLines(ctx context.Context, l *exec.Loaded, session *exec.Session, protocol tasks.Protocol, in io.Reader, name string, withPayload bool, out *printer) (failed int, err error) {
	type pending struct {
		request     int // index in reqs, or -1
		err         error
		droppedLeft int
	}
	var reqs []exec.Request
	var lines []pending
	flush := func() error {
		answers, err := session.Score(ctx, reqs)
		if err != nil {
			return err
		}
		for _, p := range lines {
			if p.err != nil {
				failed++
				if err := out.print(struct {
					Error string `json:"error"`
				}{p.err.Error()}); err != nil {
					return err
				}
				continue
			}
			a := answers[p.request]
			j := scoreAnswer{LogProb: a.LogProb, Tokens: len(a.TokenLogProbs), Greedy: a.Greedy, IDs: reqs[p.request].Input, Continuation: reqs[p.request].Targets, TokenLogProbs: a.TokenLogProbs, DroppedLeft: p.droppedLeft}
			if withPayload {
				j.Payload = payloadOf(a.Payload)
			}
			if err := out.print(j); err != nil {
				return err
			}
		}
		reqs, lines = reqs[:0], lines[:0]
		return out.flush()
	}
	err = jsonLines(in, name, func(n int, text []byte) error {
		var q scoreRequest
		var pair tasks.Pair
		perr := decodeLine(name, n, text, &q)
		place := fmt.Sprintf("%s:%d: ", name, n)
		switch {
		case perr != nil:
			place = "" // it is in the error
		case q.Context != nil && q.Continuation != nil && q.ContextIDs == nil && q.ContinuationIDs == nil:
			t, err := l.RequireTokenizer()
			if err != nil {
				return err
			}
			pair, perr = tasks.Tokenize(protocol, t, tasks.Request{Context: *q.Context, Continuation: *q.Continuation})
		case q.ContextIDs != nil && q.ContinuationIDs != nil && q.Context == nil && q.Continuation == nil:
			pair = tasks.Pair{Context: *q.ContextIDs, Continuation: *q.ContinuationIDs}
			perr = checkIDs(pair, l.Checkpoint.Config.VocabSize)
		default:
			perr = errors.New(`expected {"context":"...","continuation":"..."} or {"context_ids":[...],"continuation_ids":[...]}`)
		}
		p := pending{request: -1}
		if perr == nil {
			var input, targets []int32
			if input, targets, p.droppedLeft, perr = tasks.Input(pair, l.MaxLength); perr == nil {
				p.request = len(reqs)
				reqs = append(reqs, exec.Request{Input: input, Targets: targets})
			}
		}
		if perr != nil {
			p.err = fmt.Errorf("%s%w", place, perr)
		}
		lines = append(lines, p)
		if len(lines) >= scoreChunk {
			return flush()
		}
		return nil
	})
	return failed, errors.Join(err, flush())
}

func checkIDs(p tasks.Pair, vocab int) error {
	if len(p.Context) == 0 {
		return errors.New("context_ids is empty, expected at least one id (such as BOS)")
	}
	if len(p.Continuation) == 0 {
		return errors.New("continuation_ids is empty, expected at least one id")
	}
	for _, list := range [][]int32{p.Context, p.Continuation} {
		for _, id := range list {
			if id < 0 || int(id) >= vocab {
				return fmt.Errorf("token id %d is outside the vocabulary of %d", id, vocab)
			}
		}
	}
	return nil
}
