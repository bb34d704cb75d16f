-- wrk: the one question, again and again; or, with UNIQUE set, a new one each time.
local unique = os.getenv("UNIQUE")
local body = '{"text":"The staff were friendly, dinner was lovely. The staff were friendly, dinner was lovely. soup","max_length":40}'
local count = 0

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = body

if unique then
  request = function()
    count = count + 1
    return wrk.format(nil, nil, nil, string.format('{"text":"%s %d","max_length":40}', unique, count))
  end
end
