package main

import (
	"os"
	"testing"

	"tellergate/cmd/tellergate/gatewaytest"
)

func TestMain(m *testing.M) { os.Exit(gatewaytest.Main(m, "-race")) }

const patience = gatewaytest.Patience

var (
	start     = gatewaytest.Start
	settings  = gatewaytest.Settings
	servePods = gatewaytest.ServePods
	newClient = gatewaytest.NewClient
)
