defmodule Codex.CLI.Commands.Threads do
  @moduledoc false
  # The commands for stored threads and for tasks of Codex Cloud. See `Codex.CLI.Commands`.

  # Flags that these commands share with the terminal interface, and that need a turn.
  @turn ~w(--image --model --oss --local-provider --sandbox --approve-for-me --cd --worktree) ++
          ~w(--add-dir --dangerously-bypass-approvals-and-sandbox --dangerously-bypass-hook-trust)

  @server [
    {:remote, :string,
     "the address of an app-server that has the thread: `ws://`, `wss://` or `unix://`",
     flag: "--remote"},
    {:remote_auth_token_env, :string, "the variable of `:env` with the token of that server",
     flag: "--remote-auth-token-env"},
    {:profile, :string, "a configuration profile", flag: "--profile"},
    {:strict_config, :boolean, "unknown keys of the configuration are errors",
     flag: "--strict-config"}
  ]

  @attempt {:attempt, :positive, "the number of the attempt, from 1", flag: "--attempt"}
  @task {:task, :string, "the id of a task", :positional}
  @login "Needs a ChatGPT login; the error of a missing one has the kind `:auth_missing`."
  @cloud "#{@login} The CLI appends a log to the file `error.log` in `:cwd`."

  def rows do
    stored() ++ cloud()
  end

  defp stored do
    for {command, doc, more} <- [
          {"archive", "Archives a thread, given by its id or name.", []},
          {"unarchive", "Makes an archived thread active again.", []},
          {"delete",
           "Deletes a thread and its file for good. Pass the id of the thread with " <>
             "`force: true`: otherwise the CLI asks at a terminal, and the call fails.",
           [{:force, :boolean, "deletes without a question", flag: "--force"}]}
        ] do
      %{
        command: command,
        doc: "#{doc} `Codex.Sessions` and `Codex.Threads` do the same without the command.",
        args: [{:session, :string, "the id or the name of a thread", :positional}],
        options: @server ++ more,
        returns: :message,
        without: [{@turn, "the command runs no turn"}]
      }
    end ++
      [
        %{
          command: "queue",
          doc:
            "Queues a message for a thread. The message is sent in the next turn of the thread. " <>
              "It stands in the arguments of the process, where other users of the machine can " <>
              "read it.",
          args: [
            {:thread, :string, "the id or the name of a thread", "--thread"},
            {:message, :string, "a non-empty string", "--message"}
          ],
          options:
            @server ++
              [
                {:resume, :boolean, "then resumes the thread on the daemon or the server",
                 flag: "--resume"},
                {:cd, :path, "the working directory of the server that the command starts",
                 flag: "--cd"}
              ],
          returns: :message
        }
      ]
  end

  defp cloud do
    [
      %{
        command: "apply",
        doc:
          "Applies the latest diff of a task of Codex Cloud to the working tree in `:cwd`. " <>
            @login <> " For a diff of a local thread, see `Codex.Sessions.apply/2`.",
        args: [@task],
        returns: :message
      },
      %{
        command: "cloud exec",
        doc:
          "Submits a task to Codex Cloud. Returns the text of the CLI, with the URL of the " <>
            "task. " <> @cloud,
        args: [
          {:environment, :string, "the id of an environment of Codex Cloud", "--env"},
          {:prompt, :string, "a non-empty string", :positional}
        ],
        options: [
          {:attempts, {:integer, 1, 4}, "the number of attempts", flag: "--attempts"},
          {:branch, :string, "the Git branch to run in",
           flag: "--branch", shown: "the current one"}
        ],
        returns: :message
      },
      %{
        command: "cloud list",
        doc: ~S(Lists tasks of Codex Cloud: a map with `"tasks"` and `"cursor"`. ) <> @cloud,
        options: [
          {:environment, :string, "only the tasks of this environment", flag: "--env"},
          {:limit, {:integer, 1, 20}, "the number of tasks", flag: "--limit", shown: "20"},
          {:cursor, :string, "the `\"cursor\"` of the page before", flag: "--cursor"}
        ],
        send: ["--json"],
        returns: :json
      },
      %{
        command: "cloud status",
        doc: "Returns the state of a task of Codex Cloud. " <> @cloud,
        args: [@task],
        returns: :task_status,
        statuses: [0, 1]
      },
      %{
        command: "cloud diff",
        doc: "Returns the unified diff of a task of Codex Cloud. " <> @cloud,
        args: [@task],
        options: [@attempt],
        returns: :text
      },
      %{
        command: "cloud apply",
        doc: "Applies the diff of a task of Codex Cloud in `:cwd`. " <> @cloud,
        args: [@task],
        options: [@attempt],
        returns: :message
      }
    ]
  end
end
