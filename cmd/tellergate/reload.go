package main

import (
	"errors"

	"go.uber.org/zap"

	"tellergate/config"
	"tellergate/internal/problem"
)

// reload opens the access log anew, whatever else comes of it, reads the settings again and applies them, or logs everything that is in the way and changes nothing.
func (g *gateway) reload() {
	refuse := func(err error) {
		var list problem.List
		if !errors.As(err, &list) {
			g.log.Error("the settings were not reloaded; nothing has changed", zap.Error(err))
			return
		}
		for _, p := range list {
			g.log.Error("the settings were not reloaded; nothing has changed",
				zap.String("settings", name(g.settingsFile)), zap.Stringer("problem", p))
		}
	}
	if g.accessLog != nil {
		if err := g.accessLog.Reopen(); err != nil {
			g.log.Error("the access log goes on in the file it had", zap.Error(err))
		}
	}
	next, err := config.Load(g.settingsFile)
	if err != nil {
		refuse(err)
		return
	}
	if err := config.NeedsRestart(g.settings, next).Err(); err != nil {
		refuse(err)
		return
	}
	secrets := g.redisSecrets.Load()
	if secrets != nil {
		if secrets, err = readRedisSecrets(&next.Sessions.Redis); err != nil {
			refuse(err)
			return
		}
	}
	if err := g.proxy.Reload(next); err != nil {
		refuse(err)
		return
	}
	g.redisSecrets.Store(secrets)
	g.settings = next
	g.log.Info("settings reloaded", zap.String("settings", name(g.settingsFile)))
}
