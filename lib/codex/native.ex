defmodule Codex.Native do
  @moduledoc false
  # The functions of the NIF library, and nothing else. These modules call them: `Codex.JSONL`
  # (decoder), `Codex.AppServer.EventDecoder` (notifications), `Codex.JSON` (documents),
  # `Codex.Config` and the modules below it (configuration), `Codex.Error.Classifier`, `Codex.Auth`
  # and the modules below it (credentials), `Codex.FileSystem` (files), `Codex.NativePool`
  # (threads), `Codex.JSONRPC.Socket` (frames), `Codex.HTTP` (event streams, headers),
  # `Codex.Sessions` and the modules below it (rollouts), `Codex.Tools.ApplyPatchTool` (patches),
  # `Codex.Tools.FileSearchTool` (searches),
  # `Codex.Doctor` (facts of the library).

  alias Codex.Events.Dialects

  # Loading it while the project compiles would need modules that are not there yet.
  @compile {:autoload, false}
  @on_load :load

  # A changed library is loaded by the module that is compiled again because of it.
  @external_resource Path.expand("../../priv/native/libcodex_nif.so", __DIR__)

  def load do
    folder = :filename.join(:code.priv_dir(:codex_sdk), "native")

    # The second error has a path that people can read.
    with {:error, _} <- load(folder <> spelling(folder)),
         {:error, reason} <- load(folder <> "/") do
      failed(reason)
    else
      :ok ->
        _ = :persistent_term.erase(__MODULE__)
        :ok
    end
  end

  defp load(folder) do
    table = Dialects.native()
    :erlang.load_nif(String.to_charlist(folder <> "libcodex_nif"), table)
  end

  # The module loads without its library, so that each call shows the loader's own words. A reload
  # that fails leaves the library of before in place.
  defp failed(reason) do
    if :erlang.module_loaded(__MODULE__) do
      {:error, reason}
    else
      :persistent_term.put(__MODULE__, reason)
    end
  end

  @doc "Returns the words of the loader for a library that is not loaded, else `nil`."
  def load_error do
    with {_kind, words} <- :persistent_term.get(__MODULE__, nil), do: to_string(words)
  end

  # The linker hands out again what it loaded from a path, even if another file is there now. Each
  # file has a spelling of its own for that path, which holds the bits of its inode: `a/b` and
  # `a/./b` are two paths for the linker, and the inode then tells whether it has that file already.
  defp spelling(folder) do
    case :file.read_file_info(folder <> "/libcodex_nif.so", [:raw]) do
      {:ok, info} ->
        bits = :erlang.integer_to_list(File.Stat.from_record(info).inode, 2)
        for bit <- bits, into: "", do: separator(bit)

      {:error, _none} ->
        "/"
    end
  end

  defp separator(?1), do: "//"
  defp separator(?0), do: "/./"

  def about, do: not_loaded()
  def auth_account(_pool, _ref, _home), do: not_loaded()
  def auth_api_key_login(_key), do: not_loaded()
  def auth_claims(_token), do: not_loaded()
  def auth_delete(_pool, _ref, _request), do: not_loaded()
  def auth_load(_pool, _ref, _request), do: not_loaded()
  def auth_login(_document), do: not_loaded()
  def auth_mcp_account(_server, _url), do: not_loaded()
  def auth_mcp_renew(_old, _new), do: not_loaded()
  def auth_mcp_servers(_pool, _ref, _home, _timeout), do: not_loaded()
  def auth_probe(_pool, _ref, _request), do: not_loaded()
  def auth_save(_pool, _ref, _request, _document), do: not_loaded()
  def config_check(_schema, _tree), do: not_loaded()
  def config_edit(_text, _edits, _max_nodes), do: not_loaded()
  def config_get(_tree, _path), do: not_loaded()
  def config_is_table(_schema, _path), do: not_loaded()
  def config_layer(_schema, _text, _max, _base, _home, _project), do: not_loaded()
  def config_leaves(_tree), do: not_loaded()
  def config_merge(_trees, _keys), do: not_loaded()
  def config_overrides(_arguments), do: not_loaded()
  def config_parse(_text, _max_nodes), do: not_loaded()
  def config_parse_null(_texts), do: not_loaded()
  def config_prepare(_schema, _tree, _base, _home), do: not_loaded()
  def config_schema(_json), do: not_loaded()
  def config_term(_tree), do: not_loaded()
  def config_unlock(_lock), do: not_loaded()
  def decoder_feed(_decoder, _chunk, _at), do: not_loaded()
  def decoder_feed_long(_decoder, _chunk, _at), do: not_loaded()
  def decoder_feed_null(_decoder, _chunks), do: not_loaded()
  def decoder_finish(_decoder), do: not_loaded()
  def decoder_new(_max_line, _max_nodes), do: not_loaded()
  def error_classify(_text, _names, _ended, _times), do: not_loaded()
  def error_kinds, do: not_loaded()
  def error_last_words(_text), do: not_loaded()
  def error_retry_after(_value, _now), do: not_loaded()
  def error_without_stack(_text), do: not_loaded()
  def event_read(_dialect, _type, _object), do: not_loaded()
  def event_read_long(_dialect, _type, _object), do: not_loaded()
  def file_cwd, do: not_loaded()
  def file_drop(_copy), do: not_loaded()
  def file_hand_over(_pool, _ref, _parent, _name, _text), do: not_loaded()
  def file_keep(_pool, _ref, _copy, _path), do: not_loaded()
  def file_list(_pool, _ref, _path, _most), do: not_loaded()
  def file_lock(_pool, _ref, _path), do: not_loaded()
  def file_look(_pool, _ref, _stats, _texts, _limit), do: not_loaded()
  def file_make_private(_pool, _ref, _path), do: not_loaded()
  def file_real(_pool, _ref, _path), do: not_loaded()
  def file_stage(_pool, _ref, _path, _folder, _limit), do: not_loaded()
  def file_swap(_pool, _ref, _path, _before, _text), do: not_loaded()
  def file_tail(_pool, _ref, _path, _limit), do: not_loaded()
  def file_target(_pool, _ref, _path), do: not_loaded()
  def http_challenges(_value), do: not_loaded()
  def http_header_value(_text), do: not_loaded()
  def image, do: not_loaded()
  def json_decode(_document, _max_nodes), do: not_loaded()
  def json_decode_long(_document, _max_nodes), do: not_loaded()
  def override_arguments(_overrides), do: not_loaded()
  def override_document(_overrides), do: not_loaded()
  def override_value(_value), do: not_loaded()
  def panic, do: not_loaded()
  def patch_apply(_pool, _ref, _root, _folder, _text, _dry_run), do: not_loaded()
  def patch_edit(_pool, _ref, _content, _hunks), do: not_loaded()
  def patch_parse(_pool, _ref, _text), do: not_loaded()
  def pool_give_up(_call), do: not_loaded()
  def pool_new, do: not_loaded()
  def rollout_close(_reader), do: not_loaded()
  def rollout_contains(_pool, _ref, _files, _bytes), do: not_loaded()
  def rollout_end(_reader), do: not_loaded()
  def rollout_files(_pool, _ref, _home, _id), do: not_loaded()
  def rollout_next(_pool, _ref, _reader, _bytes), do: not_loaded()
  def rollout_open(_pool, _ref, _file, _thread, _wanted), do: not_loaded()
  def rollout_reopen(_pool, _ref, _reader, _file), do: not_loaded()
  def rollout_page(_pool, _ref, _home, _wanted, _range, _index), do: not_loaded()
  def rollout_raw(_pool, _ref, _file, _position, _most, _longest), do: not_loaded()
  def rollout_records(_pool, _ref, _store, _ids, _turns), do: not_loaded()
  def rollout_referrers(_pool, _ref, _store, _id), do: not_loaded()
  def rollout_size(_pool, _ref, _file), do: not_loaded()
  def rollout_spent(_pool, _ref, _store, _scope, _id, _index), do: not_loaded()
  def rollout_store(_pool, _ref, _home, _files), do: not_loaded()
  def search_files(_pool, _ref, _root, _pattern, _content, _options), do: not_loaded()
  def skills_scan(_pool, _ref, _roots, _paths), do: not_loaded()
  def sse_feed(_decoder, _chunk, _at), do: not_loaded()
  def sse_feed_long(_decoder, _chunk, _at), do: not_loaded()
  def sse_new(_max_event), do: not_loaded()
  def websocket_close(_socket), do: not_loaded()
  def websocket_feed(_socket, _chunk, _at), do: not_loaded()
  def websocket_feed_long(_socket, _chunk, _at), do: not_loaded()
  def websocket_new(_max_message), do: not_loaded()
  def websocket_ping(_socket), do: not_loaded()
  def websocket_text(_socket, _text), do: not_loaded()
  def websocket_text_long(_socket, _text), do: not_loaded()

  # `nif_error/1` raises, and keeps the compiler from knowing that these functions only raise.
  defp not_loaded do
    reason = load_error() || "it is older than this version of the package"

    :erlang.nif_error(%RuntimeError{
      message:
        "the native library of codex_sdk is not loaded: #{reason}. " <>
          "Run `mix codex.doctor` for advice"
    })
  end
end
