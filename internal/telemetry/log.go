// Package telemetry is how the programs are watched: the log, the metrics with
// a local listener for them, liveness and readiness, and what systemd is told.
package telemetry

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"go.uber.org/zap"
	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"
)

// NewLogger logs to standard error at level ("debug", "info", "warn", "error")
// as format says: "json", "text", or "auto": text on a terminal and to the
// journal, else JSON. Lines to the journal begin with their level as "<3>",
// sd-daemon(3), and carry no time: the journal has its own. It is for a program that
// logs each thing it is asked: lines below warnings are written together, flushEvery
// after the first of them at the latest, and by flush, which the program calls at its end.
func NewLogger(level, format string) (log *zap.Logger, flush func() error, err error) {
	l, err := zap.ParseAtomicLevel(level)
	if err != nil {
		return nil, nil, fmt.Errorf("log level %q: %w", level, err)
	}
	w := &zapcore.BufferedWriteSyncer{WS: zapcore.AddSync(lossy{os.Stderr}), FlushInterval: flushEvery}
	if log, err = newLoggerTo(w, l, format); err != nil {
		return nil, nil, err
	}
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return prompt{c} })), w.Stop, nil
}

// lossy loses what cannot be written: a buffer before it would take the first error,
// as of a disk that is full for a while, for the end.
type lossy struct{ io.Writer }

func (w lossy) Write(b []byte) (int, error) {
	_, _ = w.Writer.Write(b)
	return len(b), nil
}

// flushEvery is how late a line may be, and what a killed program's log may lack.
const flushEvery = 200 * time.Millisecond

// prompt writes warnings and worse at once, with what waits before them.
type prompt struct{ zapcore.Core }

func (p prompt) With(fields []zapcore.Field) zapcore.Core { return prompt{p.Core.With(fields)} }

func (p prompt) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if p.Enabled(e.Level) {
		return ce.AddCore(e, p)
	}
	return ce
}

func (p prompt) Write(e zapcore.Entry, fields []zapcore.Field) error {
	err := p.Core.Write(e, fields)
	if e.Level >= zapcore.WarnLevel {
		err = errors.Join(err, p.Sync())
	}
	return err
}

// NewLoggerAt is NewLogger with a level that may be changed later, and writes each line at once.
func NewLoggerAt(level zap.AtomicLevel, format string) (*zap.Logger, error) {
	return newLoggerTo(zapcore.Lock(os.Stderr), level, format)
}

func newLoggerTo(w zapcore.WriteSyncer, level zap.AtomicLevel, format string) (*zap.Logger, error) {
	toJournal, err := journal.StderrIsJournalStream()
	if err != nil {
		toJournal = false // a variable left over from another process
	}
	return newLogger(w, level, format, toJournal, term.IsTerminal(int(os.Stderr.Fd())))
}

func newLogger(w zapcore.WriteSyncer, level zapcore.LevelEnabler, format string, toJournal, terminal bool) (*zap.Logger, error) {
	c := zap.NewProductionEncoderConfig()
	c.TimeKey, c.MessageKey, c.NameKey = "time", "message", "part"
	c.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	c.EncodeDuration = zapcore.StringDurationEncoder
	c.CallerKey, c.StacktraceKey = "", ""
	if toJournal {
		c.TimeKey, c.LevelKey = "", ""
	}
	var enc zapcore.Encoder
	switch {
	case format == "text", format == "auto" && (terminal || toJournal):
		c.ConsoleSeparator = " "
		c.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		enc = zapcore.NewConsoleEncoder(c)
	case format == "json", format == "auto":
		enc = zapcore.NewJSONEncoder(c)
	default:
		return nil, fmt.Errorf("log format %q is not one of auto, json, text", format)
	}
	if toJournal {
		enc = journalEncoder{enc}
	}
	return zap.New(zapcore.NewCore(enc, w, level)), nil
}

// journalEncoder puts the syslog level before each line.
type journalEncoder struct{ zapcore.Encoder }

// Clone is what With calls: without it the copy would lose the level.
func (e journalEncoder) Clone() zapcore.Encoder { return journalEncoder{e.Encoder.Clone()} }

func (e journalEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	defer line.Free()
	out := buffers.Get()
	out.AppendByte('<')
	out.AppendInt(int64(syslogLevel(entry.Level)))
	out.AppendByte('>')
	_, err = out.Write(line.Bytes())
	return out, err
}

var buffers = buffer.NewPool()

// syslogLevel maps to the numbers of syslog(3).
func syslogLevel(l zapcore.Level) int {
	switch {
	case l >= zapcore.DPanicLevel:
		return 2
	case l == zapcore.ErrorLevel:
		return 3
	case l == zapcore.WarnLevel:
		return 4
	case l == zapcore.InfoLevel:
		return 6
	default:
		return 7
	}
}
