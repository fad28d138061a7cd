defmodule Codex.Auth.Rules do
  @moduledoc false
  # `forced_login_method` and `forced_chatgpt_workspace_id`. What breaks them makes `codex exec` delete the login and end
  # (0.169), whichever credential it was that broke them, and whatever the provider; so it is not started then.

  alias Codex.Config

  defstruct method: nil, workspaces: []

  @type t :: %__MODULE__{method: :chatgpt | :api | nil, workspaces: [String.t()]}
  @type method :: :chatgpt | :api_key
  @type violation ::
          {:forced_login_method, :chatgpt | :api, method()}
          | {:forced_chatgpt_workspace_id, [String.t()], String.t() | nil}

  @spec new(Config.t() | nil) :: t()
  def new(nil), do: %__MODULE__{}

  def new(config) do
    %__MODULE__{
      method: method(Config.get(config, "forced_login_method")),
      workspaces: config |> Config.get("forced_chatgpt_workspace_id") |> List.wrap()
    }
  end

  defp method("chatgpt"), do: :chatgpt
  defp method("api"), do: :api
  defp method(_none), do: nil

  @doc "Whether there is any."
  @spec any?(t()) :: boolean()
  def any?(rules), do: rules != %__MODULE__{}

  @doc "Whether a credential may be used: how it pays, and the workspace that it belongs to."
  @spec check(t(), atom(), String.t() | nil) :: :ok | {:error, violation()}
  def check(rules, method, workspace) do
    kind = kind(method)

    with :ok <- check_method(rules.method, kind),
         do: if(kind == :api_key, do: :ok, else: check_workspace(rules.workspaces, workspace))
  end

  @doc "Whether a kind of login may be tried: its workspace is not known before."
  @spec check_method(:chatgpt | :api | nil, method()) :: :ok | {:error, violation()}
  def check_method(:chatgpt, :api_key), do: {:error, {:forced_login_method, :chatgpt, :api_key}}
  def check_method(:api, :chatgpt), do: {:error, {:forced_login_method, :api, :chatgpt}}
  def check_method(_forced, _kind), do: :ok

  defp check_workspace([], _workspace), do: :ok

  defp check_workspace(allowed, workspace) do
    if workspace in allowed,
      do: :ok,
      else: {:error, {:forced_chatgpt_workspace_id, allowed, workspace}}
  end

  @doc "What a method is to the rules."
  @spec kind(atom()) :: method()
  def kind(method) when method in [:api_key, :bedrock_api_key, :bedrock_access_keys], do: :api_key
  def kind(_method), do: :chatgpt
end
