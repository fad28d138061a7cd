defmodule Codex.Doctor do
  # The table of checks, in their order: the name, the module with a function of this name, the
  # earlier results without which the check is skipped, and the question with its possible answers.
  #
  # The function takes the context. It returns the status, the summary, the details if there are
  # any, and the results for the context.
  @checks [
    {:native, Codex.Doctor.Installation, [],
     """
     Are the Rust library and the launcher of this package there? `:error` if one of them is missing
     or has another version
     """},
    {:cli, Codex.Doctor.Installation, [native: "the launcher is needed to run it"],
     """
     Is there a CLI, and which version is it? `:error` if there is none, or if it does not tell its
     version; `:warning` if it is older or newer than the tested versions
     """},
    {:home, Codex.Doctor.Machine, [],
     """
     Can the CLI use its home, `CODEX_HOME`? `:error` if it does not exist or cannot be written;
     `:warning` if it is in the directory for temporary files, or belongs to another user
     """},
    {:directory, Codex.Doctor.Machine, [],
     """
     Can `codex exec` run in the working directory? `:error` if it does not exist, or if it is in no
     Git repository and `:skip_git_repo_check` is not set
     """},
    {:config, Codex.Doctor.Settings,
     [
       native: "the Rust library is needed to read it",
       home: "there is no home to read it from"
     ],
     """
     Which layers does the configuration have, and are they valid? `:error` if the CLI refuses it;
     `:warning` for other problems, and for a layer that does not count
     """},
    {:auth, Codex.Doctor.Settings, [auth: "the configuration is needed to find it"],
     """
     Which credential does each transport use (`Codex.Auth.preflight/1`)? `:error` if `codex exec`
     has none; `:warning` if only the app-server has none, for the warnings of the preflight, and
     if only the CLI can read the credential (`features.secret_auth_storage`)
     """},
    {:keyring, Codex.Doctor.Settings,
     [auth: "the configuration is needed to know whether a login is kept in it"],
     """
     Is the keyring open, locked or missing? If it is not open: `:error` if the login is kept in
     it (`cli_auth_credentials_store = "keyring"`) and `codex exec` needs that login; `:warning`
     if the CLI prefers it to a file (`"auto"`)
     """},
    {:sandbox, Codex.Doctor.Sandbox,
     [
       program: "there is no CLI to ask",
       directory: "there is no directory to run it in",
       # The CLI would refuse, too.
       auth: "the CLI cannot be asked without its configuration"
     ],
     """
     Can commands run in Codex's sandbox? If not, a turn goes on, but each of its commands fails.
     This is a `:warning`, or an `:error` if the configuration asks for a sandbox by name
     (`sandbox_mode` or `default_permissions`). `:skipped` if the configuration turns it off
     (`"danger-full-access"`)
     """},
    {:environment, Codex.Doctor.Machine, [],
     """
     Which variables are set that change the behaviour of the CLI? `:warning` inside Codex's own
     sandbox
     """}
  ]

  @questions Enum.map_join(@checks, "\n", fn {name, _module, _needs, question} ->
               "  * `#{inspect(name)}` - " <>
                 String.replace(String.trim(question), "\n", "\n    ")
             end)

  @moduledoc """
  Checks whether a run would work on this machine, and gives the reasons if it would not.

  `mix codex.doctor` prints the result. A release has no Mix; call this module from a remote
  console:

      checks = Codex.Doctor.run()
      Codex.Doctor.healthy?(checks)
      #=> true
      IO.puts(Codex.Doctor.text(checks))

  The checks log in nowhere, send nothing and change nothing. They run the CLI twice, for
  `codex --version` and for `codex sandbox -- true`; like each run, the latter makes the directory
  `tmp` in the home. A locked keyring stays locked, and no user is asked to open it.

  Results contain no key, no token, and no value of the configuration or of a variable. They contain
  the hint of a key that `codex login status` shows, and the plan and the end of a ChatGPT login.

  ## Checks

  In this order. A check is `:skipped` if it needs a result that an earlier check did not find.

  #{@questions}
  """

  alias Codex.Doctor.{Check, Context, Report}
  alias Codex.Options.{Schema, Type}

  @doc """
  Runs all checks and returns them in the order above.

  Options:

  #{Context.docs()}

  The call blocks until all checks are done. If keyring and CLI hang, this takes four times
  `:timeout`, and the few seconds that `codex --version` has.

  A failed check is not an error of this function. The application `:codex_sdk` must be started,
  as it is in a release and under `mix run`. Raises `Codex.OptionError`.
  """
  @spec run(keyword()) :: [Check.t()]
  def run(opts \\ []) do
    :ok = Codex.Started.check!()
    {checks, _context} = Enum.map_reduce(@checks, Context.new(opts), &check/2)
    checks
  end

  defp check({name, module, needs, _question}, context) do
    {status, summary, details, found} =
      case Enum.find(needs, fn {key, _why} -> Map.fetch!(context, key) in [nil, false] end) do
        nil -> module |> apply(name, [context]) |> result()
        {_key, why} -> {:skipped, why, [], []}
      end

    check = %Check{name: name, status: status, summary: summary, details: details}
    {check, struct!(context, found)}
  end

  defp result({status, summary}), do: {status, summary, [], []}
  defp result({status, summary, details}), do: {status, summary, details, []}
  defp result({_status, _summary, _details, _found} = result), do: result

  @doc """
  Returns true if a run would work: no check is an error.

      iex> check = %Codex.Doctor.Check{name: :cli, status: :error, summary: "there is none"}
      iex> Codex.Doctor.healthy?([check])
      false
  """
  @spec healthy?([Check.t()]) :: boolean()
  def healthy?(checks), do: not Enum.any?(checks!(checks), &(&1.status == :error))

  defp checks!(checks) do
    if is_list(checks) and Enum.all?(checks, &is_struct(&1, Check)),
      do: checks,
      else: raise(ArgumentError, "expected a list of checks, got: #{Type.kind(checks)}")
  end

  @text Schema.new([{:color, :boolean, "uses colors"}])

  @doc """
  Formats checks as text for people, without a line break at the end.

  Options: `:color` (boolean, default `IO.ANSI.enabled?/0`).

      iex> check = %Codex.Doctor.Check{name: :cli, status: :error, summary: "there is none"}
      iex> Codex.Doctor.text([check], color: false)
      "error    cli          there is none\\n\\nA run would fail: 1 error."
  """
  @spec text([Check.t()], keyword()) :: String.t()
  def text(checks, opts \\ []) do
    %{color: color} = Schema.validate!(@text, opts)
    Report.text(checks!(checks), if(color == nil, do: IO.ANSI.enabled?(), else: color))
  end

  @doc """
  Formats checks for programs: one JSON object on one line.

      {"healthy": false, "checks": [
        {"name": "cli", "status": "error", "summary": "…", "details": [{"text": "…", …}]}]}

  A detail has its `text`, its `status` unless it is `ok`, and the facts of the text as further
  members.

      iex> check = %Codex.Doctor.Check{name: :cli, status: :ok, summary: "it is there"}
      iex> {:ok, object} = Codex.JSON.decode(Codex.Doctor.json([check]))
      iex> object["healthy"]
      true
  """
  @spec json([Check.t()]) :: String.t()
  def json(checks), do: Report.json(checks, healthy?(checks!(checks)))
end
