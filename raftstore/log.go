package raftstore

import (
	"fmt"
	"io"
	"log"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// raftLog writes what hashicorp/raft has to say to a zap logger. The level is
// zap's to choose; raft's chatter about connections arrives at Debug.
type raftLog struct {
	to      *zap.Logger
	name    string
	implied []any
}

var zapLevels = map[hclog.Level]zapcore.Level{
	hclog.Trace: zap.DebugLevel, hclog.Debug: zap.DebugLevel, hclog.Info: zap.InfoLevel,
	hclog.Warn: zap.WarnLevel, hclog.Error: zap.ErrorLevel,
}

func (l *raftLog) enabled(level hclog.Level) bool {
	zl, ok := zapLevels[level]
	return ok && l.to.Core().Enabled(zl)
}

// Log writes one message with alternating keys and values.
func (l *raftLog) Log(level hclog.Level, msg string, args ...any) {
	if !l.enabled(level) {
		return
	}
	if e := l.to.Check(zapLevels[level], msg); e != nil {
		e.Write(fields(args)...)
	}
}

func fields(args []any) []zap.Field {
	fs := make([]zap.Field, 0, len(args)/2+1)
	for i := 0; i+1 < len(args); i += 2 {
		key, ok := args[i].(string)
		if !ok {
			key = fmt.Sprint(args[i])
		}
		switch v := args[i+1].(type) {
		case hclog.Format:
			if len(v) > 0 {
				fs = append(fs, zap.String(key, fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...)))
			}
		case fmt.Stringer:
			fs = append(fs, zap.Stringer(key, v))
		default:
			fs = append(fs, zap.Any(key, v))
		}
	}
	if len(args)%2 == 1 {
		fs = append(fs, zap.Any("extra", args[len(args)-1]))
	}
	return fs
}

func (l *raftLog) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *raftLog) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *raftLog) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *raftLog) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *raftLog) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *raftLog) IsTrace() bool { return l.enabled(hclog.Trace) }
func (l *raftLog) IsDebug() bool { return l.enabled(hclog.Debug) }
func (l *raftLog) IsInfo() bool  { return l.enabled(hclog.Info) }
func (l *raftLog) IsWarn() bool  { return l.enabled(hclog.Warn) }
func (l *raftLog) IsError() bool { return l.enabled(hclog.Error) }

// ImpliedArgs returns what With added.
func (l *raftLog) ImpliedArgs() []any { return l.implied }

// With returns a logger that adds the fields to every message.
func (l *raftLog) With(args ...any) hclog.Logger {
	return &raftLog{to: l.to.With(fields(args)...), name: l.name, implied: append(l.implied[:len(l.implied):len(l.implied)], args...)}
}

// Name is the last part of the logger's name.
func (l *raftLog) Name() string { return l.name }

// Named returns a logger below this one.
func (l *raftLog) Named(name string) hclog.Logger {
	return &raftLog{to: l.to.Named(name), name: name, implied: l.implied}
}

// ResetNamed is Named: zap cannot leave its place in the tree.
func (l *raftLog) ResetNamed(name string) hclog.Logger { return l.Named(name) }

// SetLevel does nothing: the level belongs to zap.
func (l *raftLog) SetLevel(hclog.Level) {}

// GetLevel is the lowest level that is written.
func (l *raftLog) GetLevel() hclog.Level {
	for _, level := range []hclog.Level{hclog.Debug, hclog.Info, hclog.Warn, hclog.Error} {
		if l.enabled(level) {
			return level
		}
	}
	return hclog.Off
}

// StandardLogger is for code that wants a *log.Logger.
func (l *raftLog) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return zap.NewStdLog(l.to)
}

// StandardWriter is for code that wants an io.Writer.
func (l *raftLog) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return zap.NewStdLog(l.to).Writer()
}

// pebbleLog keeps pebble quiet and stops the node where pebble cannot go on:
// after Fatalf it must not be asked to do anything more.
type pebbleLog struct {
	to   *zap.Logger
	fail func(error)
}

func (l pebbleLog) Infof(format string, args ...any) { l.to.Debug(fmt.Sprintf(format, args...)) }
func (l pebbleLog) Errorf(format string, args ...any) {
	l.to.Error("pebble", zap.String("says", fmt.Sprintf(format, args...)))
}
func (l pebbleLog) Fatalf(format string, args ...any) {
	l.fail(fmt.Errorf("pebble: "+format, args...))
	select {} // pebble holds its locks and does not expect to return; the process ends soon
}
