// Loaded into Node with --require: servers that name no host listen on 127.0.0.1 only.
const net = require('net');
const listen = net.Server.prototype._listen2;
net.Server.prototype._listen2 = function (address, port, type, ...rest) {
  const anywhere = address === null && typeof port === 'number' && port >= 0;
  return listen.call(this, anywhere ? '127.0.0.1' : address, port, anywhere ? 4 : type, ...rest);
};
