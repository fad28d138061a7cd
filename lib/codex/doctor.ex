defmodule Codex.Doctor do
  @moduledoc """
  Whether a run would work on this machine, and if not, why. `mix codex.doctor` prints it; in a release, where there is no Mix, call
  it from a remote console:

      checks = Codex.Doctor.run()
      Codex.Doctor.healthy?(checks)
      #=> true
      IO.puts(Codex.Doctor.text(checks))

  It logs in nowhere, sends nothing and changes nothing. It runs the CLI (0.169) twice, for `codex --version` and for `codex sandbox --
  true`; the latter makes the CLI's folder `tmp` in the home, as each run does. A locked keyring stays locked, and nobody is asked to open it.

  Neither keys nor tokens are in what it gives, nor values of the configuration or of variables; of a key, there is the hint that `codex login
  status` shows, and of a ChatGPT login its plan and when it ends.

  ## Checks

  In this order; a check that needs what an earlier one missed is `:skipped`.

    * `:native` - the Rust library and the launcher of this package. `:error` where one of them is missing, or of another version
    * `:cli` - the program and its version. `:error` where there is none, or where it does not tell its version; `:warning` for a version
      that this package was not tested with
    * `:home` - `CODEX_HOME`. `:error` where it does not exist or cannot be written; `:warning` where it is in the folder for
      temporary files, or of another user
    * `:directory` - where a run would work. `:error` where there is no such folder; `:warning` where it is in no Git repository, in which
      `codex exec` wants to be unless the option `skip_git_repo_check` is set
    * `:config` - the layers, and what is wrong with them. `:error` for what the CLI refuses; `:warning` for the rest, and for a layer that
      does not count
    * `:auth` - which credential each lane would use (`Codex.Auth.preflight/1`). `:error` where `codex exec` has none; `:warning` where only
      the app-server has none, for the warnings of the preflight, and where only the CLI can read it (`features.secret_auth_storage`)
    * `:keyring` - whether it is open, locked, or not to be had. `:error` only where a login is kept in it
      (`cli_auth_credentials_store = "keyring"`) and `codex exec` needs that; `:warning` where it would be used before a file (`"auto"`)
    * `:sandbox` - whether commands can be run in Codex's sandbox. Where not, a turn goes on, but each of its commands fails: a `:warning`, unless the
      configuration asks for a sandbox by name (`sandbox_mode` or `default_permissions`), which makes it an `:error`. `:skipped`
      where it asks for none (`"danger-full-access"`)
    * `:environment` - which variables are set that change what the CLI does. `:warning` inside Codex's own sandbox
  """

  alias Codex.Doctor.{Check, Place, Report}

  alias Codex.Doctor.Check.{
    Auth,
    CLI,
    Config,
    Directory,
    Environment,
    Home,
    Keyring,
    Native,
    Sandbox
  }

  @checks [Native, CLI, Home, Directory, Config, Auth, Keyring, Sandbox, Environment]

  @doc """
  Looks at everything and returns the checks, in the order above.

  Options (keyword list):

    * `:codex_path` - the CLI (path, default: `CODEX_PATH`, `CODEX_BINARY`, else `codex` on the PATH)
    * `:codex_home` - the home (path, default: see `Codex.Home.resolve/1`)
    * `:cwd` - where a run would work (path, default the current directory)
    * `:env` - the environment of a run (map of strings, default that of the VM)
    * `:system_dir` - where the system's configuration is (path, default `"/etc/codex"`)
    * `:timeout` - how long each look at the keyring, and the sandbox, may take (milliseconds, default 5_000)

  It blocks until all is done: where keyring and CLI hang, for four times `:timeout` and some seconds more, which `codex --version` has.
  What is found is no error of this function. The application `:codex_sdk` must run, as it does in a release and under `mix run`.
  Raises `ArgumentError` for an option that does not exist or has a value of another type.
  """
  @spec run(keyword()) :: [Check.t()]
  def run(opts \\ []) do
    :ok = Codex.Application.Guard.started!()

    {checks, _place} =
      Enum.map_reduce(@checks, Place.new(opts), fn check, place -> check.run(place) end)

    checks
  end

  @doc """
  Whether a run would work: no check is an error.

      iex> Codex.Doctor.healthy?([%Codex.Doctor.Check{name: :cli, status: :error, summary: "there is none"}])
      false
  """
  @spec healthy?([Check.t()]) :: boolean()
  def healthy?(checks), do: not Enum.any?(checks, &(&1.status == :error))

  @doc """
  The checks for people, without a line break at the end.

  Options: `:color` (boolean, default `IO.ANSI.enabled?/0`).

      iex> Codex.Doctor.text([%Codex.Doctor.Check{name: :cli, status: :error, summary: "there is none"}], color: false)
      "error    cli          there is none\\n\\nA run would fail: 1 error."
  """
  @spec text([Check.t()], keyword()) :: String.t()
  def text(checks, opts \\ []) do
    opts = Codex.Options.Keywords.validate!(opts, color: IO.ANSI.enabled?())
    Report.text(checks, opts[:color] == true)
  end

  @doc """
  The same for programs: one JSON object on one line.

      {"healthy": false, "checks": [{"name": "cli", "status": "error", "summary": "…", "details": [{"text": "…", …}]}]}

  A detail has its `text`, its `status` where that is not `ok`, and what the text says as members of their own.

      iex> {:ok, object} = Codex.JSON.decode(Codex.Doctor.json([%Codex.Doctor.Check{name: :cli, status: :ok, summary: "it is there"}]))
      iex> object["healthy"]
      true
  """
  @spec json([Check.t()]) :: String.t()
  def json(checks), do: Report.json(checks, healthy?(checks))
end
