package upstream

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The id of an upload, and the ETag of a part, are those of all mirrors in one
// string; the empty one stands for a mirror that dropped out.

func joinIDs(ids []string) string {
	b, _ := json.Marshal(ids) // strings only: never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

func (m *Mirror) splitIDs(s string) ([]string, error) {
	var ids []string
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(b, &ids)
	}
	if err != nil || len(ids) != len(m.buckets) {
		return nil, fmt.Errorf("not an id of %d mirrors: %w", len(m.buckets), ErrNotExist)
	}
	return ids, nil
}

// errOut is a mirror that dropped out of an upload.
var errOut = fmt.Errorf("mirror missed a part of the upload: %w", ErrUnavailable)

// enough is settle for what is not visible yet: nobody has missed an object.
func (m *Mirror) enough(errs []error) error {
	ok := 0
	for i, err := range errs {
		if !errors.Is(err, errSkipped) && !errors.Is(err, errOut) {
			m.note(i, err)
		}
		if err == nil {
			ok++
		}
	}
	if ok >= m.quorum {
		return nil
	}
	return joinAsked(errs)
}

// StartMultipart implements [Bucket].
func (m *Mirror) StartMultipart(ctx context.Context, name string, o PutOptions) (string, error) {
	ids := make([]string, len(m.buckets))
	errs := m.each(func(i int) (err error) {
		ids[i], err = m.buckets[i].StartMultipart(ctx, name, o)
		return err
	})
	if err := m.enough(errs); err != nil {
		return "", errors.Join(err, m.AbortMultipart(context.WithoutCancel(ctx), name, joinIDs(ids)))
	}
	return joinIDs(ids), nil
}

// PutPart implements [Bucket].
func (m *Mirror) PutPart(ctx context.Context, name, id string, number int, body io.Reader, size int64) (string, error) {
	ids, err := m.splitIDs(id)
	if err != nil {
		return "", fmt.Errorf("putting part %d of %q: %w", number, name, err)
	}
	etags := make([]string, len(m.buckets))
	errs := m.fanOut(ctx, body, size, func(i int, r io.Reader) (err error) {
		if ids[i] == "" {
			return errOut
		}
		etags[i], err = m.buckets[i].PutPart(ctx, name, ids[i], number, r, size)
		return err
	})
	if err := m.enough(errs); err != nil {
		return "", err
	}
	return joinIDs(etags), nil
}

// CompleteMultipart implements [Bucket].
func (m *Mirror) CompleteMultipart(ctx context.Context, name, id string, parts []Part, o PutOptions) (Info, error) {
	ids, lists, err := m.splitParts(id, parts)
	if err != nil {
		return Info{}, fmt.Errorf("completing upload of %q: %w", name, err)
	}
	mu := m.lock(name)
	mu.Lock()
	defer mu.Unlock()
	infos := make([]Info, len(m.buckets))
	complete := func(i int, o PutOptions) (err error) {
		if ids[i] == "" || lists[i] == nil {
			return errOut
		}
		infos[i], err = m.buckets[i].CompleteMultipart(ctx, name, ids[i], lists[i], o)
		return err
	}
	conditional := o.IfAbsent || o.IfMatch != ""
	if conditional {
		if err := complete(0, o); err != nil {
			m.note(0, err)
			return Info{}, err
		}
	}
	errs := m.each(func(i int) error {
		if i == 0 && conditional {
			return nil
		}
		return complete(i, PutOptions{})
	})
	if conditional {
		errs[0] = nil // also if it was down a moment ago
	}
	return m.result(name, infos, errs)
}

// splitParts returns what each mirror knows the upload and its parts by; the list
// is nil for one that lacks a part.
func (m *Mirror) splitParts(id string, parts []Part) (ids []string, lists [][]Part, err error) {
	if ids, err = m.splitIDs(id); err != nil {
		return nil, nil, err
	}
	if err = checkParts(parts); err != nil {
		return nil, nil, err
	}
	lists = make([][]Part, len(m.buckets))
	for i := range lists {
		lists[i] = make([]Part, 0, len(parts))
	}
	for _, p := range parts {
		etags, err := m.splitIDs(p.ETag)
		if err != nil {
			return nil, nil, fmt.Errorf("part %d has another ETag", p.Number)
		}
		for i, etag := range etags {
			if etag == "" || lists[i] == nil {
				lists[i] = nil
				continue
			}
			lists[i] = append(lists[i], Part{p.Number, etag})
		}
	}
	return ids, lists, nil
}

// AbortMultipart implements [Bucket]. A mirror out of reach sweeps the upload
// itself some day.
func (m *Mirror) AbortMultipart(ctx context.Context, name, id string) error {
	ids, err := m.splitIDs(id)
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	errs := m.each(func(i int) error {
		if ids[i] == "" {
			return nil
		}
		return m.buckets[i].AbortMultipart(ctx, name, ids[i])
	})
	return m.enough(errs)
}

// ListMultipart implements [Bucket]. The uploads of each mirror are listed by
// themselves, with IDs that are good for AbortMultipart.
func (m *Mirror) ListMultipart(ctx context.Context, prefix string, fn func(Upload) error) error {
	var uploads []Upload
	var errs []error
	for i, b := range m.buckets {
		err := b.ListMultipart(ctx, prefix, func(u Upload) error {
			ids := make([]string, len(m.buckets))
			ids[i] = u.ID
			u.ID = joinIDs(ids)
			uploads = append(uploads, u)
			return nil
		})
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) == len(m.buckets) {
		return errors.Join(errs...)
	}
	slices.SortStableFunc(uploads, func(a, b Upload) int { return strings.Compare(a.Name, b.Name) })
	for _, u := range uploads {
		if err := fn(u); err != nil {
			return err
		}
	}
	return nil
}
