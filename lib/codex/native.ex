defmodule Codex.Native do
  @moduledoc false
  @on_load :load

  def load,
    do: :erlang.load_nif(:filename.join(:code.priv_dir(:codex_sdk), 'native/libcodex_nif'), 0)
end
