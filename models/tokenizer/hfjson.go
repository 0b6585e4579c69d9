package tokenizer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// hfTokenizer follows a Hugging Face tokenizer.json of the SentencePiece-BPE kind: a BPE model over characters with
// U+2581 for the space, which a normalizer (Prepend, Replace) or the Metaspace pre-tokenizer writes.
//
// "truncation" and "padding" of the file are left alone: they are settings of a batch call, which the transformers
// library replaces at every call, not part of the mapping from text to ids.
type hfTokenizer struct {
	core
	m *bpe

	trim, squeeze bool // spaces: cut at both ends; runs to one
	prepend       bool // normalizer: U+2581 before every part of the text
	scheme        string
	added         addedTokens
}

// addedTokens finds the added tokens of a file in a text.
type addedTokens struct {
	raw        *matcher // found in the text as it is (normalized: false)
	normalized *matcher // found in the normalized text
}

// hfAdded is an entry of added_tokens.
type hfAdded struct {
	ID         *int64  `json:"id"`
	Content    *string `json:"content"`
	SingleWord bool    `json:"single_word"`
	LStrip     bool    `json:"lstrip"`
	RStrip     bool    `json:"rstrip"`
	Normalized bool    `json:"normalized"`
	Special    bool    `json:"special"`
}

// hfPart is any of the small components: a normalizer, pre-tokenizer, post-processor or decoder, or a sequence of them.
type hfPart struct {
	Type          string   `json:"type"`
	Normalizers   []hfPart `json:"normalizers"`
	Pretokenizers []hfPart `json:"pretokenizers"`
	Processors    []hfPart `json:"processors"`
	Decoders      []hfPart `json:"decoders"`

	Prepend        *string                    `json:"prepend"`
	Pattern        map[string]string          `json:"pattern"`
	Content        *string                    `json:"content"`
	Start          int                        `json:"start"`
	Stop           int                        `json:"stop"`
	Replacement    *string                    `json:"replacement"`
	PrependScheme  *string                    `json:"prepend_scheme"`
	AddPrefixSpace *bool                      `json:"add_prefix_space"`
	Split          *bool                      `json:"split"`
	UseRegex       *bool                      `json:"use_regex"`
	Behavior       string                     `json:"behavior"`
	Invert         bool                       `json:"invert"`
	StrRep         *string                    `json:"str_rep"`
	Single         []map[string]hfTemplateUse `json:"single"`
	SpecialTokens  map[string]hfTemplateToken `json:"special_tokens"`
}

type hfTemplateUse struct {
	ID string `json:"id"`
}

type hfTemplateToken struct {
	IDs []int64 `json:"ids"`
}

// list returns the parts of a sequence, or the part itself; none for null.
func (p *hfPart) list() []hfPart {
	switch {
	case p == nil:
		return nil
	case p.Type == "Sequence":
		return slices.Concat(p.Normalizers, p.Pretokenizers, p.Processors, p.Decoders)
	}
	return []hfPart{*p}
}

func (p *hfPart) describe() string {
	if p == nil {
		return "null"
	}
	if p.Type != "Sequence" {
		return p.detail()
	}
	var names []string
	for _, q := range p.list() {
		names = append(names, q.detail())
	}
	return "Sequence[" + strings.Join(names, ", ") + "]"
}

// detail is the type of a part with what distinguishes it, on one line.
func (p *hfPart) detail() string {
	name := clean(p.Type)
	switch {
	case p.Pattern != nil:
		keys := make([]string, 0, 1)
		for k, v := range p.Pattern {
			keys = append(keys, fmt.Sprintf("%s %.80q", clean(k), v))
		}
		slices.Sort(keys)
		return fmt.Sprintf("%s(%s)", name, strings.Join(keys, ", "))
	case p.Prepend != nil:
		return fmt.Sprintf("%s(%.80q)", name, *p.Prepend)
	case p.Replacement != nil:
		return fmt.Sprintf("%s(%.80q)", name, *p.Replacement)
	}
	return name
}

// clean makes a short line of a text of the file.
func clean(s string) string { return strings.Trim(fmt.Sprintf("%.80q", s), `"`) }

// has reports whether the part or one below it is of a type.
func (p *hfPart) has(typ string) bool {
	if p == nil {
		return false
	}
	for _, q := range p.list() {
		if q.Type == typ || q.Type == "Sequence" && q.has(typ) {
			return true
		}
	}
	return false
}

// hfFile is a tokenizer.json cut into its components.
type hfFile struct {
	added        []hfAdded
	normalizer   *hfPart
	preTokenizer *hfPart
	post         *hfPart
	decoder      *hfPart
	model        *hfModel
}

// parseHF cuts a tokenizer.json into its components.
func parseHF(data []byte) (*hfFile, error) {
	f := &hfFile{}
	seen := make(map[string]bool)
	r := &jsonReader{s: view(bytes.TrimPrefix(data, []byte("\ufeff")))}
	err := r.object(func(key string) (err error) {
		if seen[key] {
			return r.fail("%.40q appears twice", key)
		}
		seen[key] = true
		if key == "model" {
			typ := cmp.Or(r.peekType(), "BPE")
			if typ != "BPE" {
				return r.fail("model type %q is not supported, expected \"BPE\"", typ)
			}
			f.model, err = parseHFModel(r, len(data))
			return err
		}
		part, err := r.sub()
		if err != nil {
			return err
		}
		switch key {
		case "truncation", "padding":
			return part.skip()
		case "version":
			var v string
			if err = part.decode(key, &v); err == nil && v != "1.0" {
				err = part.fail("version %q, expected \"1.0\"", v)
			}
			return err
		case "added_tokens":
			return part.decode(key, &f.added)
		case "normalizer":
			return part.decode(key, &f.normalizer)
		case "pre_tokenizer":
			return part.decode(key, &f.preTokenizer)
		case "post_processor":
			return part.decode(key, &f.post)
		case "decoder":
			return part.decode(key, &f.decoder)
		}
		return r.fail("unknown key %.40q", key)
	})
	if err == nil {
		err = r.end()
	}
	if err == nil && f.model == nil {
		err = errors.New(`no key "model", expected a tokenizer.json`)
	}
	return f, err
}

// decode reads a small component into v.
func (r *jsonReader) decode(key string, v any) error {
	if err := json.Unmarshal([]byte(r.s), v); err != nil {
		var t *json.UnmarshalTypeError
		if errors.As(err, &t) {
			return r.fail("%s.%s is a %s, expected a %s", key, clean(t.Field), clean(t.Value), t.Type)
		}
		return r.fail("%s: %s", key, clean(err.Error()))
	}
	return nil
}

// hfModel is the BPE model of a tokenizer.json.
type hfModel struct {
	unkToken     string
	hasUnk       bool
	fuseUnk      bool
	byteFallback bool
	ignoreMerges bool
	vocab        *vocabulary
	merges       *jsonReader
}

// peekType returns the value of "type" if it stands among the first plain keys of an object.
func (r jsonReader) peekType() (typ string) {
	stop := errors.New("")
	_ = r.object(func(key string) (err error) {
		if key == "type" {
			typ, err = r.str()
			return cmp.Or(err, stop)
		}
		if c := r.peek(); c == '{' || c == '[' {
			return stop
		}
		return r.skip()
	})
	return typ
}

// parseHFModel reads the model. The oldest layout has no type.
func parseHFModel(r *jsonReader, fileSize int) (*hfModel, error) {
	m := &hfModel{}
	seen := make(map[string]bool)
	err := r.object(func(key string) (err error) {
		if seen[key] {
			return r.fail("model.%.40q appears twice", key)
		}
		seen[key] = true
		switch key {
		case "type":
			var typ string
			if typ, err = r.str(); err == nil && typ != "BPE" {
				err = r.fail("model.type %q is not supported, expected \"BPE\"", typ)
			}
		case "dropout", "continuing_subword_prefix", "end_of_word_suffix":
			at := *r
			if r.null() {
				return nil
			}
			if w := at.scalar(); key == "dropout" && (w == "0" || w == "0.0") {
				return r.skip()
			}
			if s, serr := r.str(); serr == nil && s == "" && key != "dropout" {
				return nil
			}
			return at.fail("model.%s is not supported, expected null", key)
		case "unk_token":
			if !r.null() {
				m.unkToken, err = r.str()
				m.hasUnk = true
			}
		case "fuse_unk":
			m.fuseUnk, err = r.boolean()
		case "byte_fallback":
			m.byteFallback, err = r.boolean()
		case "ignore_merges":
			m.ignoreMerges, err = r.boolean()
		case "vocab":
			// The shortest entry, "a":0, takes 6 bytes; most have some 20.
			m.vocab = newVocabulary(len(r.s) / 64)
			return m.vocab.read(r, "model.vocab", fileSize)
		case "merges":
			m.merges, err = r.sub()
		default:
			return r.fail("unknown key model.%.40q", key)
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case m.vocab == nil || m.vocab.used == 0:
		return nil, r.fail("model.vocab is missing or empty")
	case m.merges == nil:
		return nil, r.fail("model.merges is missing")
	}
	return m, nil
}

// loadHF makes a tokenizer from a tokenizer.json.
func loadHF(data []byte, side settings) (Tokenizer, error) {
	f, err := parseHF(data)
	if err != nil {
		return nil, err
	}
	if f.preTokenizer.has("ByteLevel") || f.decoder.has("ByteLevel") {
		return wrap(loadByteLevel(f, data, side))
	}
	t := &hfTokenizer{}
	if err := t.setNormalizer(f.normalizer, f.preTokenizer); err != nil {
		return nil, err
	}
	if err := t.setDecoder(f.decoder); err != nil {
		return nil, err
	}
	model := f.model
	if err := t.setModel(model, f.preTokenizer); err != nil {
		return nil, err
	}
	v := model.vocab
	if t.added, err = t.setAdded(f.added, v, t.normalize, len(data)); err != nil {
		return nil, err
	}
	for id, piece := range v.pieces {
		if _, ok := byteOf(piece); ok && t.rules.byteRuns && v.kinds[id] == pieceText {
			v.kinds[id] = pieceByte
		}
	}
	t.kind = "tokenizer.json"
	t.bos, t.eos = -1, -1
	given, err := t.setPost(f.post.list())
	if err != nil {
		return nil, err
	}
	return wrap(t, t.setSpecials(data, v, side, given))
}

// setNormalizer accepts the forms that SentencePiece models are converted to.
func (t *hfTokenizer) setNormalizer(norm, pre *hfPart) error {
	const forms = `expected Prepend("▁"), Replace(String " ") with "▁", perhaps after the Replaces that remove extra spaces`
	replaced := false
	for _, p := range norm.list() {
		key, content := "", ""
		if p.Content != nil {
			content = *p.Content
		}
		if len(p.Pattern) == 1 {
			for k, v := range p.Pattern {
				key = k + " " + v
			}
		}
		early := !t.prepend && !replaced
		switch {
		case p.Type == "Prepend" && p.Prepend != nil && *p.Prepend == mark && !t.prepend:
			t.prepend = true
		case p.Type == "Replace" && key == "String  " && content == mark && p.Content != nil && !replaced:
			replaced = true
		case p.Type == "Replace" && key == `Regex \A +| +\z` && content == "" && p.Content != nil && early && !t.trim && !t.squeeze:
			t.trim = true
		case p.Type == "Replace" && key == "Regex  {2,}" && content == " " && early && !t.squeeze:
			t.squeeze = true
		default:
			return fmt.Errorf("normalizer %s: %s with content %.80q is not supported here, %s", norm.describe(), p.detail(), content, forms)
		}
	}
	if len(pre.list()) == 0 {
		if !replaced {
			return fmt.Errorf("normalizer %s with pre_tokenizer null is not supported, %s", norm.describe(), forms)
		}
		return nil
	}
	p := pre.list()[0]
	if len(pre.list()) > 1 || p.Type != "Metaspace" {
		return fmt.Errorf("pre_tokenizer %s is not supported, expected null or Metaspace", pre.describe())
	}
	if norm != nil && len(norm.list()) > 0 {
		return fmt.Errorf("normalizer %s together with pre_tokenizer Metaspace is not supported, expected null", norm.describe())
	}
	var err error
	t.scheme, err = metaspaceScheme("pre_tokenizer", p)
	return err
}

// metaspaceScheme returns the prepend_scheme of a Metaspace part in its new or its legacy form.
func metaspaceScheme(name string, p hfPart) (string, error) {
	if p.Replacement == nil || *p.Replacement != mark || p.StrRep != nil && *p.StrRep != mark {
		return "", fmt.Errorf("%s %s is not supported, expected the replacement \"▁\"", name, p.detail())
	}
	scheme := "always"
	if p.PrependScheme != nil {
		scheme = *p.PrependScheme
	}
	if p.AddPrefixSpace != nil && !*p.AddPrefixSpace {
		if p.PrependScheme != nil && scheme != "never" {
			return "", fmt.Errorf("%s Metaspace with add_prefix_space false and prepend_scheme %.80q, expected \"never\"", name, scheme)
		}
		scheme = "never"
	}
	if !slices.Contains([]string{"always", "first", "never"}, scheme) {
		return "", fmt.Errorf("%s Metaspace has prepend_scheme %.80q, expected always, first or never", name, scheme)
	}
	return scheme, nil
}

// setDecoder accepts Replace, ByteFallback, Fuse and Strip, each optional, in this order, or Metaspace for the Replace.
func (t *hfTokenizer) setDecoder(d *hfPart) error {
	const forms = `expected Sequence[Replace(String "▁"), ByteFallback, Fuse, Strip] or Metaspace`
	if d == nil {
		return fmt.Errorf("decoder null is not supported, %s", forms)
	}
	step, fused := 0, false
	for _, p := range d.list() {
		at := slices.Index([]string{"Replace", "ByteFallback", "Fuse", "Strip"}, p.Type)
		if p.Type == "Metaspace" {
			at = 0
		}
		if at < step {
			return fmt.Errorf("decoder %s: %s is not supported here, %s", d.describe(), p.detail(), forms)
		}
		step = at + 1
		content := ""
		if p.Content != nil {
			content = *p.Content
		}
		switch p.Type {
		case "Replace":
			if p.Pattern["String"] != mark || len(p.Pattern) != 1 || content != " " {
				return fmt.Errorf("decoder %s with content %.80q is not supported, %s", p.detail(), content, forms)
			}
			t.rules.markIsSpace = true
		case "Metaspace":
			scheme, err := metaspaceScheme("decoder", p)
			if err != nil {
				return err
			}
			t.rules.markIsSpace, t.rules.firstBare = true, scheme != "never"
		case "ByteFallback":
			t.rules.byteRuns = true
		case "Fuse":
			fused = true
		case "Strip":
			if !fused || content != " " || p.Stop != 0 || p.Start < 0 {
				return fmt.Errorf("decoder Strip with content %.80q, start %d, stop %d is not supported, expected \" \", any start and stop 0 behind Fuse", content, p.Start, p.Stop)
			}
			t.rules.strip = p.Start
		}
	}
	return nil
}

// setModel fills the merge engine.
func (t *hfTokenizer) setModel(model *hfModel, pre *hfPart) error {
	v := model.vocab
	m := newBPE(len(v.pieces))
	t.m = m
	m.byteFallback, m.fuseUnk = model.byteFallback, model.fuseUnk
	if model.hasUnk {
		id, ok := v.find(model.unkToken)
		if !ok {
			return fmt.Errorf("model.unk_token %.40q is not in model.vocab", model.unkToken)
		}
		m.unk = id
	}
	longest := 0
	for id, piece := range v.pieces {
		if v.kinds[id] == pieceAbsent {
			continue
		}
		longest = max(longest, len(piece))
		if r, ok := oneRune(piece); ok {
			m.setSymbol(r, int32(id))
		}
		if b, ok := byteOf(piece); ok && piece == fmt.Sprintf("<0x%02X>", b) {
			m.bytes[b] = int32(id)
		}
	}
	if len(pre.list()) > 0 {
		split := pre.list()[0].Split
		m.everyMark = split == nil || *split
	}
	if model.ignoreMerges {
		m.whole, m.longest = v.whole(), longest // ignore_merges does not see added tokens
	}
	return m.setMerges(model.merges, v)
}

// setMerges reads model.merges, as "a b" strings or ["a", "b"] pairs.
func (m *bpe) setMerges(r *jsonReader, v *vocabulary) error {
	made := make([]bool, len(v.pieces))
	// The shortest merge, "a b", takes 6 bytes; most take some 18.
	m.pairs = newPairTable(len(r.s) / 20)
	b := &mergeBatch{m: m, v: v, made: made}
	rank := uint32(0)
	unknown := func(it *mergeItem) error {
		r.pos = it.at
		return r.fail("model.merges[%d]: %.40q, %.40q and %.40q are not all in model.vocab", it.rank, it.left, it.right, it.left+it.right)
	}
	err := r.array(func(i int) error {
		left, right, err := r.merge(i)
		if err != nil || left == "" && right == "" {
			return err
		}
		bad := b.add(mergeItem{left: left, right: right, to: noSymbol, rank: rank, at: r.pos})
		if rank++; bad != nil {
			return unknown(bad)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if bad := b.flush(); bad != nil {
		return unknown(bad)
	}
	m.finish(func(yield func(string) bool) {
		for id, ok := range made {
			if ok && !yield(v.pieces[id]) {
				return
			}
		}
	})
	return m.pairs.check()
}

// merge reads one merge; both parts are empty for a comment line that old files carry.
func (r *jsonReader) merge(i int) (left, right string, err error) {
	if r.peek() != '[' {
		s, err := r.str()
		if err != nil {
			return "", "", err
		}
		if strings.HasPrefix(s, "#version") {
			return "", "", nil
		}
		left, right, ok := strings.Cut(s, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			return "", "", r.fail("model.merges[%d] is %.40q, expected two tokens with one space between", i, s)
		}
		return left, right, nil
	}
	n := 0
	err = r.array(func(k int) (err error) {
		n++
		switch k {
		case 0:
			left, err = r.str()
		case 1:
			right, err = r.str()
		default:
			err = r.skip()
		}
		return err
	})
	if err == nil && (n != 2 || left == "" || right == "") {
		err = r.fail("model.merges[%d] has %d parts, expected two that are not empty", i, n)
	}
	return left, right, err
}

// setAdded enters added tokens into the vocabulary v, which becomes that of c. normalize is the file's normalizer.
func (c *core) setAdded(added []hfAdded, v *vocabulary, normalize func(string) string, fileSize int) (addedTokens, error) {
	out := addedTokens{newMatcher(), newMatcher()}
	c.shown = make(map[int32]string)
	seen := make(map[string]bool, len(added))
	// The library enters special tokens first, so that they win over others of the same text.
	for _, special := range []bool{true, false} {
		for i, a := range added {
			if a.Special != special {
				continue
			}
			if a.ID == nil || a.Content == nil || *a.Content == "" {
				return out, fmt.Errorf("added_tokens[%d] without id or content", i)
			}
			content := *a.Content
			if a.SingleWord {
				return out, fmt.Errorf("added_tokens[%d] %.40q has single_word true, which is not supported, expected false", i, content)
			}
			if seen[content] {
				return out, fmt.Errorf("added_tokens[%d] %.40q appears twice", i, content)
			}
			seen[content] = true
			id, known := v.find(content)
			if known && int64(id) != *a.ID {
				return out, fmt.Errorf("added_tokens[%d] %.40q has id %d, expected the %d of model.vocab", i, content, *a.ID, id)
			}
			if !known {
				if err := v.add(content, *a.ID, pieceText, fileSize); err != nil {
					return out, fmt.Errorf("added_tokens[%d]: %w", i, err)
				}
				id = int32(*a.ID)
			}
			if a.Special {
				v.kinds[id] = pieceControl
			}
			as := matched{id: id, special: a.Special, lstrip: a.LStrip, rstrip: a.RStrip}
			if !a.Normalized {
				out.raw.add(content, as)
			} else if n := normalize(content); n != "" {
				out.normalized.add(n, as)
				if n != content {
					// The library decodes such a token to its normalized text and then does not know it for special.
					v.kinds[id], c.shown[id] = pieceShown, n
				}
			}
		}
	}
	c.pieces, c.kinds = v.pieces, v.kinds
	return out, nil
}

// setPost reads the template and reports whether there is one.
func (c *core) setPost(parts []hfPart) (bool, error) {
	if len(parts) == 0 {
		return false, nil
	}
	p := parts[0]
	if len(parts) > 1 || p.Type != "TemplateProcessing" {
		post := hfPart{Type: "Sequence", Processors: parts}
		if len(parts) == 1 {
			post = p
		}
		return false, fmt.Errorf("post_processor %s is not supported, expected null or TemplateProcessing", post.describe())
	}
	text := 0
	for _, use := range p.Single {
		token, ok := use["SpecialToken"]
		if !ok {
			if seq, ok := use["Sequence"]; !ok || seq.ID != "A" {
				return false, fmt.Errorf("post_processor TemplateProcessing.single: expected SpecialToken or Sequence A only")
			}
			text++
			continue
		}
		ids, ok := p.SpecialTokens[token.ID]
		if !ok || len(ids.IDs) == 0 {
			return false, fmt.Errorf("post_processor TemplateProcessing: %.40q is not in special_tokens", token.ID)
		}
		for _, id := range ids.IDs {
			if id < 0 || id >= int64(len(c.pieces)) || !c.has(int32(id)) {
				return false, fmt.Errorf("post_processor TemplateProcessing: %.40q has id %d, which is not in the vocabulary", token.ID, id)
			}
			if text == 0 {
				c.prefix = append(c.prefix, int32(id))
			} else {
				c.suffix = append(c.suffix, int32(id))
			}
		}
	}
	if text != 1 {
		return false, fmt.Errorf("post_processor TemplateProcessing.single has %d times Sequence A, expected once", text)
	}
	if len(c.prefix) > 0 {
		c.bos = c.prefix[0]
	}
	if n := len(c.suffix); n > 0 {
		c.eos = c.suffix[n-1]
	}
	return true, nil
}

func (t *hfTokenizer) Encode(text string, special bool) []int32 {
	return t.encode(text, special, false)
}

func (t *hfTokenizer) EncodeParsed(text string, special bool) []int32 {
	return t.encode(text, special, true)
}

// encode follows AddedVocabulary::extract_and_normalize of the Hugging Face library: added tokens with normalized false
// are cut out of the text, what lies between is normalized part by part, the others are cut out of that.
func (t *hfTokenizer) encode(text string, special, parse bool) []int32 {
	dst := t.begin(len(text), special)
	inside := t.added.inside(parse)
	t.added.raw.split(repair(text), parse, func(part string, offset int, id int32) {
		switch {
		case id >= 0:
			dst = append(dst, id)
		case !inside:
			dst = t.part(dst, t.unspaced(part), offset, t.prepend)
		default:
			t.added.normalized.split(t.normalize(part), parse, func(part string, at int, id int32) {
				if id >= 0 {
					dst = append(dst, id)
				} else {
					dst = t.part(dst, part, offset+at, false)
				}
			})
		}
	})
	return t.end(dst, special)
}

// inside reports whether normalized text has to be searched for added tokens.
func (a *addedTokens) inside(parse bool) bool {
	return !a.normalized.empty() && (parse || a.normalized.plain)
}

// part appends the ids of a part that holds no added token. offset is its place in the text, which only the Metaspace
// scheme "first" looks at; the text is not normalized then.
func (t *hfTokenizer) part(dst []int32, s string, offset int, prepend bool) []int32 {
	if s == "" {
		return dst
	}
	if t.scheme == "always" || t.scheme == "first" && offset == 0 {
		prepend = markAt(s, 0) == 0
	}
	return t.m.encode(dst, s, prepend)
}

// unspaced does the normalizer's removal of extra spaces.
func (t *hfTokenizer) unspaced(s string) string {
	if t.trim {
		s = strings.Trim(s, " ")
	}
	if !t.squeeze || !strings.Contains(s, "  ") {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := range len(s) {
		if s[i] != ' ' || i == 0 || s[i-1] != ' ' {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// normalize is the whole normalizer, written out.
func (t *hfTokenizer) normalize(s string) string {
	s = t.unspaced(s)
	if t.scheme != "" || s == "" {
		return s
	}
	s = strings.ReplaceAll(s, " ", mark)
	if t.prepend {
		s = mark + s
	}
	return s
}
