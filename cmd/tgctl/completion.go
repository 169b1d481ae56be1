package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"tellergate/admin/api"
)

// completion is the command that prints shell completion.
func (t *tool) completion() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print the completion script of a shell",
		Example: `  source <(tgctl completion bash)
  tgctl completion zsh > "${fpath[1]}/_tgctl"
  tgctl completion fish > ~/.config/fish/completions/tgctl.fish`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(t.out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(t.out)
			case "fish":
				return cmd.Root().GenFishCompletion(t.out, true)
			}
			return usagef("there is no completion for %s; give bash, zsh or fish", args[0])
		},
	}
}

// completionPatience is how long somebody who pressed Tab waits for the server.
const completionPatience = 2 * time.Second

// fetch asks the server on behalf of a completion. The global flags have been parsed, but no command was prepared.
func (t *tool) fetch(cmd *cobra.Command, path string, value any) bool {
	if t.prepare() != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
	defer cancel()
	_, err := t.client.ask(ctx, call{path: path}, value)
	return err == nil
}

func (t *tool) completeServices(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var all api.Services
	var names []string
	if t.fetch(cmd, api.ServicesPath, &all) {
		for i := range all.Services {
			names = append(names, all.Services[i].Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (t *tool) completeServiceVersion(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return t.completeServices(cmd, args, word)
	}
	var service api.ServiceStatus
	var names []string
	if t.fetch(cmd, api.ServicePath(args[0]), &service) {
		for i := range service.Versions {
			names = append(names, service.Versions[i].Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (t *tool) completeLists(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var all api.Lists
	var names []string
	if t.fetch(cmd, api.ListsPath, &all) {
		for _, l := range all.Lists {
			names = append(names, l.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
