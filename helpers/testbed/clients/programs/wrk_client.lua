-- wrk stops by time; with this it stops after so many answers: wrk --script wrk_client.lua ... URL -- ANSWERS
local left

function init(arguments)
   left = tonumber(arguments[1])
end

function response()
   left = left - 1
   if left == 0 then
      wrk.thread:stop()
   end
end
