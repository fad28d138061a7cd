defmodule Codex.Example do
  @moduledoc "The programs of `examples/`, with a scripted model."

  alias Codex.Test

  @examples Path.expand("../../examples", __DIR__)

  @doc "Returns the source for `Codex.OtherVM` that runs an example in the workspace of the model."
  def program(model, name, args \\ [], env \\ %{}) do
    options = Test.options(model)
    {:ok, codex} = Test.codex_path()

    env =
      options[:env]
      |> Map.merge(%{"CODEX_HOME" => options[:codex_home], "CODEX_PATH" => codex})
      |> Map.merge(env)

    """
    System.put_env(#{source(env)})
    File.cd!(#{source(model.workspace)})
    System.argv(#{source(args)})
    Code.require_file(#{source(Path.join(@examples, name))})
    """
  end

  @doc "Returns the names of all examples."
  def names, do: @examples |> File.ls!() |> Enum.filter(&(Path.extname(&1) == ".exs"))

  defp source(term), do: inspect(term, limit: :infinity, printable_limit: :infinity)
end
