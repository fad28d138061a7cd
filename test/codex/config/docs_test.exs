defmodule Codex.Config.DocsTest do
  use ExUnit.Case, async: true

  doctest Codex.Config.Error
  doctest Codex.Config.Key
  doctest Codex.Config.Layer
  doctest Codex.Config.LayerStack
  doctest Codex.Config.Schema
end
