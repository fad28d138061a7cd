defmodule Codex.Exec.Argv do
  @moduledoc false
  # Makes argv, environment and stdin of `codex exec` from a job, and argv and environment of an
  # interactive session. Pure, but for checks of files.

  alias Codex.{Bridge, FileSystem, Home, Input, Native}
  alias Codex.CLI.Program
  alias Codex.Config.Loader
  alias Codex.Error.Redact
  alias Codex.Exec.{Flags, Secrets, Servers}
  alias Codex.Hooks.{Config, Set}
  alias Codex.Options.Overrides
  alias Codex.Turn.Job

  # The variables that a clean environment keeps.
  @host_env ~w(HOME USER LOGNAME PATH LANG LC_ALL TMPDIR CODEX_HOME XDG_CONFIG_HOME XDG_CACHE_HOME)

  # The variables that name the home. Reading all variables takes ten times as long.
  @home_env ~w(CODEX_HOME HOME)

  @max_schema FileSystem.max_bytes()

  @enforce_keys [:argv, :env, :clear_env, :stdin, :settings]
  defstruct @enforce_keys ++ [:resume, :mcp_servers?, :bridge, :hooks, servers: %{}]

  @typedoc """
  An argument that names a file with this content: by its path, as the value of a configuration
  key, or as a profile of the home. With a mark it is no argument: the path takes the place of the
  mark in the others.
  """
  @type file ::
          {:file, iodata(),
           :path | {:config, String.t()} | {:profile, Path.t()} | {:mark, String.t()}}

  @typedoc """
  A command line. `resume` is the thread that has to start; `servers` are the variables of MCP
  servers; `mcp_servers?` tells whether the configuration mentions any, nil if nobody looked;
  `bridge` is the MCP server of the host's tools and hooks: its name, and the mark of the file with
  its variables, which exist when the CLI starts.
  """
  @type t :: %__MODULE__{
          argv: [String.t() | file(), ...],
          servers: Servers.envs(),
          env: %{String.t() => String.t() | nil},
          clear_env: boolean(),
          stdin: String.t(),
          settings: map(),
          mcp_servers?: boolean() | nil,
          bridge: %{name: String.t(), mark: String.t()} | nil,
          hooks: Set.t() | nil,
          resume: nil | :last | {:fork, String.t()} | String.t()
        }

  @doc "Returns the command line of a job."
  @spec build(Job.t()) :: {:ok, t()} | {:error, Codex.Reason.command()}
  def build(%Job{task: {:run, input}, settings: settings} = job) do
    with {:ok, prompt, images} <- prompt(input),
         {:ok, images} <- Input.existing_images(images ++ settings.images) do
      resume = resume(job.thread)
      all = if resume == :last and settings.resume_all, do: ["--all"], else: []
      build(job, position(resume, all ++ Enum.flat_map(images, &["-i", &1])), prompt, resume)
    end
  end

  def build(%Job{task: {:review, target}} = job) do
    with {:ok, args, stdin} <- target(target),
         do: build(job, ["review" | args], stdin, nil)
  end

  @doc """
  Returns the command line of an interactive session: `words` are its command, `last` stands behind
  the flags.
  """
  @spec interactive(map(), [String.t()], [String.t()]) ::
          {:ok, t()} | {:error, Codex.Reason.command()}
  def interactive(settings, words, last),
    do:
      build(
        %{settings: Map.put(settings, :output_schema_path, nil), thread: nil},
        last,
        "",
        nil,
        words
      )

  @doc "Returns the settings that select the credentials of a run, as options of `Codex.Auth`."
  @spec surroundings(t()) :: keyword()
  def surroundings(%__MODULE__{} = args), do: surroundings(args, &System.get_env/0)

  @doc "Returns the settings that select the home and its files, as options of `Codex.Auth`."
  @spec home_surroundings(t()) :: keyword()
  def home_surroundings(%__MODULE__{} = args),
    do: surroundings(args, fn -> variables(@home_env) end)

  defp surroundings(%{settings: settings} = args, host) do
    host = if args.clear_env, do: %{}, else: host.()

    [
      env: Map.merge(host, args.env),
      cwd: settings.working_directory,
      profile: settings.profile,
      overrides: oss(settings) ++ overrides_of(args.argv),
      ignore_user_config: "--ignore-user-config" in args.argv
    ]
  end

  # `--oss` selects a provider, `ollama` by default.
  defp oss(%{oss: true} = settings),
    do: ["model_provider=" <> (settings.local_provider || "ollama")]

  defp oss(_settings), do: []

  defp overrides_of(["--config", override | rest]) when is_binary(override),
    do: [override | overrides_of(rest)]

  defp overrides_of([_other | rest]), do: overrides_of(rest)
  defp overrides_of([]), do: []

  @exec ["exec", "--json"]

  defp build(%{thread: thread} = job, command, stdin, resume, words \\ @exec) do
    settings = made_home(job.settings)

    with {:ok, program} <- Program.find(settings.codex_path_override),
         :ok <- Home.guard(home_env(settings)),
         :ok <- check_remote(settings, command, resume, words),
         :ok <- check_ephemeral(settings, resume),
         :ok <- check_local_provider(settings),
         :ok <- FileSystem.working_directory(settings.working_directory),
         {:ok, settings, overlay} <- overlay(settings),
         {:ok, sent} <- Flags.all(settings),
         :ok <- Flags.check_version(settings, program),
         :ok <- check_overlay(overlay, sent.flags),
         {:ok, hidden} <- Secrets.hide(Flags.overrides(sent, settings)),
         {:ok, schema} <- schema(settings[:output_schema_path], settings.output_schema) do
      args = %__MODULE__{
        argv: [program | words] ++ overlay ++ sent.flags ++ schema,
        env: env(settings, Map.merge(sent.env, hidden.vars), program),
        clear_env: clear_env?(settings),
        stdin: stdin,
        settings: settings,
        servers: hidden.servers,
        hooks: Codex.Hooks.Turn.hooks(settings, :exec, hook_context(settings, thread)),
        resume: resume
      }

      with :ok <- Flags.check_parts(if(args.hooks, do: Set.parts(args.hooks), else: []), program),
           {:ok, args, overrides} <- bridge(args, hidden.overrides),
           {:ok, args} <- override(args, overrides),
           do: {:ok, %{args | argv: args.argv ++ command}}
    end
  end

  # A session of the TUI takes all of its flags beside `--remote`.
  defp check_remote(settings, command, resume, @exec),
    do: Flags.check_remote(settings, if(hd(command) == "review", do: :review, else: resume))

  defp check_remote(_settings, _command, _resume, _words), do: :ok

  defp hook_context(settings, thread) do
    approvals = %{thread: thread, metadata: Map.get(thread || %{}, :metadata, %{})}
    %{telemetry_prefix: settings.telemetry_prefix, approvals: approvals}
  end

  defp bridge(args, overrides) do
    case services(args, args.hooks, nil) do
      {:ok, []} -> {:ok, args, overrides}
      {:ok, services} -> bridge(services, args, overrides)
      error -> error
    end
  end

  defp bridge(services, args, overrides) do
    with {:ok, all} <- put(args, overrides) do
      taken = all |> surroundings() |> Servers.servers() |> Map.keys()
      bridge = %{name: Bridge.name(taken), mark: Servers.mark()}

      members =
        for {key, value} <- Bridge.server(services),
            do: {["mcp_servers", bridge.name, key], value}

      started = Servers.start(bridge.name, bridge.mark, Bridge.command())

      {:ok, %{args | bridge: bridge},
       overrides ++ started ++ members ++ hooks(args.hooks, bridge.name, overrides)}
    end
  end

  defp hooks(nil, _server, _overrides), do: []

  # Each prompt proves that the CLI runs the hooks.
  defp hooks(set, server, overrides) do
    events = Enum.uniq([:user_prompt_submit | Set.events(set)])
    overrides |> Config.overrides(server, Set.timeouts(events)) |> elem(0)
  end

  @doc "Returns the services of a run's bridge: the tools and these hooks of the host."
  @spec services(t(), Set.t() | nil, struct() | nil) ::
          {:ok, [Bridge.Service.t()]} | {:error, Codex.Reason.option()}
  def services(args, set, thread) do
    hooks = if set, do: [%Bridge.Hooks{current: fn -> set end}], else: []

    case args.settings.tools do
      [_ | _] = tools ->
        with {:ok, service} <- Bridge.Tools.new(tools, thread), do: {:ok, [service | hooks]}

      _none ->
        {:ok, hooks}
    end
  end

  @doc "Adds the variables of the bridge, which is open by now."
  @spec put_bridge(t(), Bridge.t()) :: t()
  def put_bridge(%{bridge: %{name: name, mark: mark}} = args, %Bridge{env: env}) do
    file = {:file, Servers.records(name, env), {:mark, mark}}
    %{args | argv: args.argv ++ [file], servers: Map.put(args.servers, name, env)}
  end

  defp override(%{servers: none} = args, overrides) when none == %{}, do: put(args, overrides)

  # The definition of a server follows from all overrides, and from the files.
  defp override(args, overrides) do
    with {:ok, all} <- put(args, overrides),
         {:ok, started, file} <- Servers.wrap(args.servers, surroundings(all)),
         {:ok, args} <- put(args, overrides ++ started),
         do: {:ok, %{args | argv: args.argv ++ file}}
  end

  defp put(args, overrides) do
    with {:ok, overrides} <- overrides(overrides),
         do: {:ok, %{args | argv: args.argv ++ overrides}}
  end

  # In a home that this package made, `config.toml` is the caller's own. It counts whatever the
  # isolation: without it the CLI would turn to its built-in provider.
  defp made_home(%{ignore_user_config: ignore, isolation: isolation} = settings)
       when ignore == true or isolation in [:project, :hermetic] do
    with {:ok, home} <- home(settings), true <- Home.made?(home) do
      Map.merge(settings, %{made_home?: true, ignore_user_config: nil})
    else
      _ -> settings
    end
  end

  defp made_home(settings), do: settings

  defp home(settings) do
    env = for {name, value} <- home_env(settings), value != nil, into: %{}, do: {name, value}
    Home.resolve(env: env)
  end

  # As the CLI will find it: variables of `env` win over `codex_home`.
  defp home_env(settings) do
    named = if settings.codex_home, do: %{"CODEX_HOME" => settings.codex_home}, else: %{}
    @home_env |> variables() |> Map.merge(named) |> Map.merge(settings.env)
  end

  # The variables of the VM with these names.
  defp variables(names),
    do: for(name <- names, value = System.get_env(name), into: %{}, do: {name, value})

  # A text that is too long for an argument and has no file of its own goes into a profile that
  # exists for this run: a copy of the named profile, if any, and the text.
  defp overlay(%{developer_instructions: text} = settings) when is_binary(text) do
    if byte_size(text) <= Flags.max_argument() do
      {:ok, settings, []}
    else
      with {:ok, home} <- home(settings),
           {:ok, profile} <- profile(home, settings.profile),
           {:ok, json} <- Codex.JSON.encode(text),
           {:ok, profile} <-
             edit(profile, settings.profile, [{["developer_instructions"], json, false}]) do
        settings = %{settings | profile: nil, developer_instructions: nil}
        {:ok, settings, ["--profile", {:file, profile, {:profile, home}}]}
      end
    end
  end

  defp overlay(settings), do: {:ok, settings, []}

  # The CLI ignores profiles, too.
  defp check_overlay([_ | _], flags) do
    if "--ignore-user-config" in flags,
      do: {:error, {:unsupported_option, :developer_instructions, :ignore_user_config}},
      else: :ok
  end

  defp check_overlay([], _flags), do: :ok

  # The CLI takes a profile without a file for an empty one.
  defp profile(_home, nil), do: {:ok, ""}

  defp profile(home, name) do
    case FileSystem.read(Path.join(home, name <> ".config.toml")) do
      {:ok, text} -> {:ok, text}
      {:error, :enoent} -> {:ok, ""}
      {:error, _} -> {:error, {:invalid_profile, name}}
    end
  end

  defp edit(text, name, edits) do
    with {:error, _not_toml} <- Native.config_edit(text, edits, Loader.max_nodes()),
         do: {:error, {:invalid_profile, name}}
  end

  defp overrides(overrides) do
    {files, values} = Enum.split_with(overrides, &match?({:file, _, _}, &1))

    case Overrides.arguments(values) do
      {:ok, arguments} ->
        files = for {:file, [key], content} <- files, do: {:file, content, {:config, key}}
        {:ok, Enum.flat_map(files ++ arguments, &["--config", &1])}

      {:error, name} ->
        {:error, Overrides.invalid(name)}
    end
  end

  ## Checks

  # The CLI accepts the pair, and keeps the turn in the session file of the thread.
  defp check_ephemeral(%{ephemeral: true}, resume) when is_binary(resume) or resume == :last,
    do: {:error, {:unsupported_option, :ephemeral, :resume}}

  defp check_ephemeral(_settings, _resume), do: :ok

  # The CLI accepts it without `--oss`, and uses the provider of the configuration.
  defp check_local_provider(%{local_provider: name, oss: oss}) when name != nil and oss != true,
    do: {:error, {:unsupported_option, :local_provider, :not_oss}}

  defp check_local_provider(_settings), do: :ok

  # A schema's file is made when the run starts.
  defp schema(nil, nil), do: {:ok, []}

  defp schema(nil, schema) do
    case Codex.JSON.encode(schema) do
      {:ok, encoded} -> {:ok, ["--output-schema", {:file, encoded, :path}]}
      {:error, reason} -> {:error, {:invalid_output_schema, reason}}
    end
  end

  # The CLI would wait for a pipe's writer, and read a device without end.
  defp schema(path, _schema) do
    case FileSystem.stat(path) do
      {:ok, %{kind: kind}} when kind != :regular -> unreadable(path, {:not_regular, kind})
      {:ok, %{size: size}} when size > @max_schema -> unreadable(path, {:too_large, @max_schema})
      {:error, :timeout} -> unreadable(path, :timeout)
      _there_or_missing -> {:ok, ["--output-schema", path]}
    end
  end

  defp unreadable(path, reason),
    do: {:error, {:invalid_output_schema, {:unreadable, path, FileSystem.message(reason)}}}

  ## Input

  # The texts are the prompt, which may not be empty.
  defp prompt(input) do
    with {:ok, blocks} <- Input.blocks(input),
         {:ok, texts, images} <- split(blocks, List.wrap(input), [], []) do
      case Enum.join(texts, "\n") do
        "" -> {:error, {:invalid_input, ""}}
        text -> {:ok, text, images}
      end
    end
  end

  defp split([], [], texts, images), do: {:ok, Enum.reverse(texts), Enum.reverse(images)}

  defp split([block | blocks], [given | rest], texts, images) do
    case block do
      %{"type" => "text", "text" => text} when is_binary(text) ->
        split(blocks, rest, [text | texts], images)

      %{"type" => "localImage", "path" => path} when is_binary(path) ->
        split(blocks, rest, texts, [path | images])

      %{"type" => type} when type not in ["text", "localImage"] and is_binary(type) ->
        {:error, {:unsupported_input, :exec}}

      _invalid ->
        {:error, {:invalid_input, given}}
    end
  end

  ## Which thread

  defp resume(%{thread_id: id}) when is_binary(id), do: id
  defp resume(%{resume: :last}), do: :last
  defp resume(%{fork_of: id}) when is_binary(id), do: {:fork, id}
  defp resume(_thread), do: nil

  # The prompt is on stdin: `-`. Neither a prompt nor an id can be taken for a flag, and `--` ends
  # the list that `-i` takes.
  defp position(nil, images), do: images ++ ["--", "-"]
  defp position(:last, images), do: ["resume", "--last"] ++ images ++ ["--", "-"]
  defp position({:fork, id}, images), do: ["fork"] ++ images ++ ["--", id, "-"]
  defp position(id, images), do: ["resume"] ++ images ++ ["--", id, "-"]

  defp target(all) when all in [:uncommitted_changes, {:uncommitted_changes}],
    do: {:ok, ["--uncommitted"], ""}

  defp target({:base_branch, branch}), do: {:ok, ["--base=" <> branch], ""}
  defp target({:commit, sha}), do: {:ok, ["--commit=" <> sha], ""}
  defp target({:commit, sha, nil}), do: target({:commit, sha})
  defp target({:commit, sha, title}), do: {:ok, ["--commit=" <> sha, "--title=" <> title], ""}
  defp target({:custom, text}), do: target(text)
  defp target(text), do: with({:ok, text, []} <- prompt(text), do: {:ok, ["-"], text})

  @doc "Returns the secrets of the environment and the variables of MCP servers."
  @spec secrets(t()) :: [String.t()]
  def secrets(%__MODULE__{env: env, clear_env: clear_env, servers: servers} = args) do
    host = if clear_env, do: %{}, else: System.get_env()
    masked = for text <- args.settings.redact, is_binary(text), do: text
    masked ++ (host |> Map.merge(env) |> Redact.secrets(servers))
  end

  ## Environment

  defp clear_env?(%{clear_env?: nil, isolation: :hermetic}), do: true
  defp clear_env?(settings), do: settings.clear_env? == true

  defp env(settings, sent, program) do
    kept = if clear_env?(settings), do: variables(@host_env), else: %{}
    kept |> Map.merge(sent) |> Map.merge(settings.env) |> Program.put_path(program)
  end
end
