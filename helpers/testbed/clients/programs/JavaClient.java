// Java's HttpClient: java JavaClient.java URL WORKERS TIMES
// So many workers ask so many times each. Then the program says `done` and does nothing until its input ends.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

public class JavaClient {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        var request = HttpRequest.newBuilder(URI.create(arguments[0])).build();
        int number = Integer.parseInt(arguments[1]), times = Integer.parseInt(arguments[2]);
        var workers = Executors.newFixedThreadPool(number);
        for (int worker = 0; worker < number; worker++) {
            workers.submit(() -> {
                for (int time = 0; time < times; time++) {
                    client.send(request, BodyHandlers.ofString());
                }
                return null;
            });
        }
        workers.shutdown();
        workers.awaitTermination(1, TimeUnit.MINUTES);
        System.out.println("done");
        System.in.readAllBytes();
        System.exit(0);
    }
}
