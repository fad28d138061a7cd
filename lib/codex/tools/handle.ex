defmodule Codex.Tools.Handle do
  @moduledoc """
  A registered tool, from `Codex.Tools.register/2`: for `Codex.Tools.deregister/1`, and for the
  option `tools` of a thread.
  """

  @enforce_keys [:name, :module]
  defstruct [:name, :module]

  @typedoc "The name of the tool and its module."
  @type t :: %__MODULE__{name: String.t(), module: module()}
end
